# SPDX-License-Identifier: MIT
"""An iommufd and the device a command was told to use, open while the command runs."""

import contextlib
from collections.abc import Iterator

import click

from iommufd_py import BoundDevice, Iommufd, MockDevice, VfioDevice, pci

from .types import BDF_OR_MOCK, MOCK

__all__ = ["BIND_OPTION", "DEVICE_OPTION", "opened"]

DEVICE_OPTION = click.option(
    "--device", type=BDF_OR_MOCK, metavar="BDF|mock", help="PCI device on vfio-pci, or the kernel's mock driver."
)
BIND_OPTION = click.option(
    "--bind", is_flag=True, help="Bind the device to vfio-pci first, give it back to its driver afterwards."
)


@contextlib.contextmanager
def opened(device: str | None, bind: bool) -> Iterator[tuple[Iommufd, BoundDevice | None]]:
    """Open an iommufd and bind *device* to it, None for no device; with *bind*, hold it on vfio-pci meanwhile."""
    with contextlib.ExitStack() as stack:
        if bind and device not in (None, MOCK):
            stack.enter_context(pci.vfio_bound(str(device)))
        iommufd = stack.enter_context(Iommufd())
        if device is None:
            yield iommufd, None
        else:
            yield iommufd, MockDevice(iommufd) if device == MOCK else VfioDevice(iommufd, device)
