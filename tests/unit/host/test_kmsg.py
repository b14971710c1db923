# SPDX-License-Identifier: MIT
"""The kernel log is closed once, and only its own descriptor."""

import os
from collections.abc import Iterator

import pytest

from iommufd_py import ClosedError
from iommufd_py.host.kmsg import KernelLog


@pytest.fixture
def log() -> Iterator[KernelLog]:
    try:
        log = KernelLog(whole=True)
    except OSError as failure:
        pytest.skip(f"the kernel log cannot be read: {failure}")
    yield log
    log.close()


def test_a_second_close_closes_no_file_of_somebody_else(log: KernelLog) -> None:
    log.close()
    # The kernel gives the lowest free number, which is that of the log.
    other = os.open(os.devnull, os.O_RDONLY)
    log.close()
    os.close(other)


def test_a_closed_log_is_not_read(log: KernelLog) -> None:
    log.text()
    log.close()
    with pytest.raises(ClosedError, match=r"KernelLog\(\) is closed"):
        log.text()
