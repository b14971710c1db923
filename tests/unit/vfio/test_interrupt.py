# SPDX-License-Identifier: MIT
"""Interrupts in a process with too few free file descriptors."""

import os
import resource
import subprocess
import sys

import pytest

from iommufd_py.base.errors import DeviceError
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import IrqFlags, IrqIndex
from iommufd_py.vfio.file import VfioFile
from iommufd_py.vfio.interrupt import Interrupts

LIMIT = 128


class ManyVectors(VfioFile):
    """A file instead of a device: the descriptors run out before the first ioctl."""

    name = "0000:3b:00.0"

    def __init__(self) -> None:
        super().__init__()
        with self._opening():
            self._fd = os.open(os.devnull, os.O_RDWR)

    def irq_info(self, index: IrqIndex) -> vfio.IrqInfo:
        return vfio.IrqInfo(index, IrqFlags.EVENTFD, 2048)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    with ManyVectors() as device:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(DeviceError, match=r"2048 MSIX .* RLIMIT_NOFILE \(ulimit -n\), which is 128"):
            Interrupts(device, IrqIndex.MSIX, 2048)
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.slow
def test_too_few_descriptors_are_an_error_that_leaves_none_open() -> None:
    """The test runs in a separate process, which lowers its limit."""
    from tests.waiting import patience  # The program below cannot import it.

    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=patience(12), check=False)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()
