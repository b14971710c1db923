# SPDX-License-Identifier: MIT
"""A signal at any moment of a resource's life: `closed` tells the truth, and nothing stays open."""

import os
from collections.abc import Callable

from iommufd_py.objects.resource import Resource
from tests.storm import storm


class Null(Resource):
    """An open /dev/null, as a VFIO device is an open file."""

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


def in_a_storm(prepare: Callable[[list[Null]], None], work: Callable[[list[Null]], None]) -> int:
    made: list[Null] = []
    before = descriptors()

    def check() -> None:
        # As the enclosing with statement does.
        for one in reversed(made):
            one.close()
        made.clear()
        assert descriptors() == before

    return storm(lambda: prepare(made), lambda: work(made), check)


def test_closing_gives_the_descriptor_back() -> None:
    assert in_a_storm(lambda made: made.append(Null()), lambda made: made[0].close()) > 1000


def test_closing_several_gives_all_back() -> None:
    def prepare(made: list[Null]) -> None:
        made.append(Null())
        made.append(Null(made[0]))
        made.append(Null(made[1]))

    assert in_a_storm(prepare, lambda made: made[0].close()) > 1000


def test_opening_under_another_leaves_none_unknown() -> None:
    """The caller may lose the new object, but the one below closes it."""

    def work(made: list[Null]) -> None:
        Null(made[0])

    assert in_a_storm(lambda made: made.append(Null()), work) > 1000
