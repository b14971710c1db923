# SPDX-License-Identifier: MIT
"""Signals are held during a block, and none stays blocked after it."""

import signal

import pytest

from iommufd_py.base.signals import ENDING, held_signals
from tests.storm import signal_storm


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ())) & set(ENDING)


@pytest.mark.slow
def test_a_signal_at_any_moment_leaves_no_signal_blocked() -> None:
    def work() -> None:
        with held_signals():
            assert blocked() == set(ENDING)

    def check() -> None:
        left = blocked()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        assert not left

    assert signal_storm(work, check) > 100


def test_the_inner_block_does_not_end_the_outer_one() -> None:
    with held_signals():
        with held_signals():
            pass
        assert blocked() == set(ENDING)
    assert not blocked()
