# SPDX-License-Identifier: MIT
"""Regions without a device: what fails before the first ioctl."""

import os

import pytest

from iommufd_py import DeviceError, IoEventFd, Region
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import RegionFlags
from iommufd_py.vfio.file import VfioFile
from tests.open_files import TOO_MANY, no_descriptor_left


class NullDevice(VfioFile):
    name = "0000:3b:00.0"

    def __init__(self) -> None:
        super().__init__()
        with self._opening():
            self._fd = os.open(os.devnull, os.O_RDWR)


class RegionOfNull(Region):
    def __init__(self, device: VfioFile) -> None:
        self.device = device
        self.info = vfio.RegionInfo(0, RegionFlags(0), 4096, 0, (), {})


def test_an_ioeventfd_without_a_descriptor_left_names_the_limit() -> None:
    with NullDevice() as device:
        region = RegionOfNull(device)
        with no_descriptor_left(), pytest.raises(DeviceError, match=f"BAR0 of .* gets no eventfd: {TOO_MANY}"):
            IoEventFd(region, 0, 1, 4)
