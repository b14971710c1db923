# SPDX-License-Identifier: MIT
"""The instruction that writes 64 bytes to a device's portal."""

import mmap
import os
from pathlib import Path

import pytest

from iommufd_py.uapi.call import address_of_buffer
from iommufd_py.uapi.portal import has_movdir64b, submit_descriptor


def test_the_cpu_has_the_instruction_if_the_kernel_says_so() -> None:
    flags = {word for line in Path("/proc/cpuinfo").read_text().splitlines() for word in line.split()}
    assert has_movdir64b() is ("movdir64b" in flags)


@pytest.mark.skipif(not has_movdir64b(), reason="this CPU has no MOVDIR64B")
def test_one_write_has_64_bytes_in_order() -> None:
    descriptor = os.urandom(64)
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        submit_descriptor(address_of_buffer(page) + 128, descriptor)
        assert page[:] == bytes(128) + descriptor + bytes(mmap.PAGESIZE - 192)
