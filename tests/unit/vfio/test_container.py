# SPDX-License-Identifier: MIT
"""A container before its first device. Needs no kernel."""

import pytest

from iommufd_py import Container, DeviceError


def test_the_device_of_a_container_without_one_is_an_error_with_its_remedy() -> None:
    with pytest.raises(DeviceError, match=r"has no PCI device yet: open one with its open_device\(\)"):
        _ = Container().device
