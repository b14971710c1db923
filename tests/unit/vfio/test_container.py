# SPDX-License-Identifier: MIT
"""A container before its first device. Needs no kernel."""

import pytest

from iommufd_py import DeviceError, IoasContainer


class ContainerOfNoKernel(IoasContainer):
    """A container that is opened in no kernel."""

    def __init__(self) -> None:
        pass

    def __repr__(self) -> str:
        return "the container"


def test_the_device_of_a_container_without_one_is_an_error_with_its_remedy() -> None:
    with pytest.raises(DeviceError, match=r"^the container has no PCI device yet: open one with its open_device\(\)"):
        _ = ContainerOfNoKernel().device
