# SPDX-License-Identifier: MIT
"""Fixture `change_process` of the kernel's selftests: the account of pinned pages, and its change."""

import ctypes
import errno
import os
import re
from pathlib import Path

import pytest

from iommufd_py import Backing, DmaBuffer, Iommufd, MockDevice
from tests.conftest import fails, need_ioctl, need_mock_driver
from tests.mock.processes import in_child

PAGE = 4096


def drop_cap_ipc_lock() -> None:
    """Drop the capability with which the kernel charges pinned pages to no limit."""
    cap_ipc_lock, version_3 = 14, 0x20080522  # include/uapi/linux/capability.h
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(version_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of capabilities from 32
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << cap_ipc_lock)
    assert libc.capset(header, sets) == 0


def charged_kb(process: int) -> dict[str, int]:
    """Return the pinned and the locked memory of *process* in kB."""
    status = Path(f"/proc/{process}/status").read_text()
    return {name: int(kb) for name, kb in re.findall(r"^(VmPin|VmLck):\s*(\d+) kB$", status, re.MULTILINE)}


VARIANTS = {"account_none": None, "account_user": 0, "account_mm": 1}


@pytest.mark.parametrize("rlimit_mode", VARIANTS.values(), ids=VARIANTS)
def test_basic(iommufd: Iommufd, rlimit_mode: int | None) -> None:
    need_mock_driver(iommufd)
    need_ioctl(iommufd, "IOMMU_IOAS_CHANGE_PROCESS", "6.14")
    one_page = {"VmPin": PAGE >> 10, "VmLck": PAGE >> 10 if rlimit_mode else 0}
    nothing = {"VmPin": 0, "VmLck": 0}

    def first_process() -> None:
        drop_cap_ipc_lock()
        with Iommufd() as mine, DmaBuffer(PAGE, Backing.MEMFD) as buffer:
            if rlimit_mode is not None:
                mine.rlimit_mode = rlimit_mode
            ioas = mine.alloc_ioas()
            MockDevice(mine).attach(ioas)
            with ioas.map(buffer), fails(errno.EINVAL):
                mine.change_process()

            ioas.map_file(buffer)
            mine.change_process()
            me = os.getpid()

            def second_process() -> None:
                assert charged_kb(me) == one_page
                assert charged_kb(os.getpid()) == nothing
                mine.change_process()
                assert charged_kb(me) == nothing
                assert charged_kb(os.getpid()) == one_page

            in_child(second_process)

    in_child(first_process)
