# SPDX-License-Identifier: MIT
"""An iommufd and the device a command was told to use, open while the command runs."""

import contextlib
from collections.abc import Iterator

import click

from iommufd_py import BoundDevice, Coherency, Iommufd, MockDevice, VfioDevice, pci
from iommufd_py.base.pci_address import MOCK
from iommufd_py.mock import mock_flags

from .types import BDF_OR_MOCK

DEVICE_OPTION = click.option(
    "--device", type=BDF_OR_MOCK, metavar="BDF|mock", help="PCI device on vfio-pci, or the kernel's mock driver."
)
BIND_OPTION = click.option(
    "--bind", is_flag=True, help="Bind the device to vfio-pci first, give it back to its driver afterwards."
)


@contextlib.contextmanager
def open_session(
    device: str | None, bind: bool, coherency: Coherency = Coherency.ANY
) -> Iterator[tuple[Iommufd, BoundDevice | None]]:
    """Open an iommufd and bind *device* to it, None for no device; with *bind*, hold it on vfio-pci meanwhile.

    A mock device is made of the *coherency* that is wanted, where the kernel can; a PCI device is what it is.
    """
    with contextlib.ExitStack() as stack:
        if bind and device not in (None, MOCK):
            stack.enter_context(pci.vfio_bound(str(device)))
        iommufd = stack.enter_context(Iommufd())
        if device is None:
            yield iommufd, None
        elif device == MOCK:
            yield iommufd, MockDevice(iommufd, mock_flags(iommufd, coherency))
        else:
            yield iommufd, VfioDevice(iommufd, device)
