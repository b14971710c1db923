# SPDX-License-Identifier: MIT
"""The process that holds the lock of a device."""

from iommufd_py.pci.lending import parse_holder


def test_holder_of_a_lock() -> None:
    locks = (
        "1: POSIX  ADVISORY  WRITE 11 00:19:1234 0 EOF\n"
        "2: FLOCK  ADVISORY  WRITE 22 00:19:1234 0 EOF\n"
        "2: -> FLOCK  ADVISORY  WRITE 33 00:19:1234 0 EOF\n"
        "3: FLOCK  ADVISORY  WRITE -1 00:19:99 0 EOF\n"
    )
    assert parse_holder(locks, 1234) == 22
    assert parse_holder(locks, 99) == 0
    assert parse_holder(locks, 1) == 0
