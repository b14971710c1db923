# SPDX-License-Identifier: MIT
"""Signals at any moment of a resource's life: `closed` is always correct, and nothing stays open."""

import os
from collections.abc import Callable

import pytest

from iommufd_py.objects.resource import Resource
from tests.storm import signal_storm


class Null(Resource):
    """A resource that is an open file, like a VFIO device; here /dev/null."""

    def __init__(self, *stands_on: Resource) -> None:
        super().__init__(*stands_on)
        with self._opening():
            self.fd = os.open(os.devnull, os.O_RDONLY)

    def __repr__(self) -> str:
        return "Null()"

    def _release(self) -> None:
        os.close(self.fd)


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"), key=int)


def in_a_storm(work: Callable[[Null], object]) -> int:
    with Null() as root:
        before: list[str] = []

        def check() -> None:
            # Closing the root does the same.
            for one in reversed(tuple(root._dependents)):
                one.close()
            # In the process of storm(), which has one descriptor more.
            before[:] = before or descriptors()
            assert descriptors() == before

        return signal_storm(lambda: work(root), check)


@pytest.mark.slow
def test_opening_and_closing_leaves_no_descriptor() -> None:
    assert in_a_storm(lambda root: Null(root).close()) > 100


@pytest.mark.slow
def test_closing_several_leaves_no_descriptor() -> None:
    def work(root: Null) -> None:
        first = Null(root)
        Null(first, Null(first))
        first.close()

    assert in_a_storm(work) > 100


@pytest.mark.slow
def test_leaving_a_block_leaves_no_descriptor() -> None:
    def work(root: Null) -> None:
        with Null(root) as first, Null(root, first):
            pass

    assert in_a_storm(work) > 100
