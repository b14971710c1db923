# SPDX-License-Identifier: MIT
"""The kernel log is closed once, and only its own descriptor."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import ClosedError
from iommufd_py.host import kmsg
from iommufd_py.host.kmsg import KernelLog
from iommufd_py.testing import leak_check
from iommufd_py.testing.leak_check import LeakCheck


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


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A pipe in place of the log, which gives one record for each read."""
    reader, writer = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    monkeypatch.setattr(kmsg, "KMSG", Path(f"/proc/self/fd/{reader}"))
    yield writer
    os.close(reader)
    os.close(writer)


def write_records(writer: int, *numbers: int) -> None:
    for number in numbers:
        os.write(writer, f"4,{number},5140900,-;message {number}\n".encode())


def test_messages_that_were_overwritten_are_counted(records: int) -> None:
    """Documentation/ABI/testing/dev-kmsg: the numbers "allow to calculate the amount of lost messages"."""
    with KernelLog(whole=True) as log:
        write_records(records, 7, 8)
        assert log.text().splitlines() == ["[    5.140900] message 7", "[    5.140900] message 8"]
        assert log.lost == 0
        write_records(records, 12, 13, 20)
        assert len(log.text().splitlines()) == 3
        assert log.lost == 3 + 6
        write_records(records, 30)
        log.restart()
        assert log.lost == 9, "nobody asks for the messages before a restart"
        write_records(records, 31)
        log.text()
        assert log.lost == 9


def test_a_test_with_a_lost_message_is_not_watched(records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning can be among the messages that the kernel overwrote."""
    monkeypatch.setattr(leak_check, "KernelLog", lambda: KernelLog(whole=True))  # A pipe has no end to seek to.
    check = LeakCheck()
    assert check.unwatched == ""
    write_records(records, 7, 9)
    check.complaints(leaks=False)
    assert check.unwatched.startswith("the kernel overwrote 1 message of its log before they were read: ")
