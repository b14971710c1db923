# SPDX-License-Identifier: MIT
"""Open an iommufd and the device of a command while the command runs."""

import contextlib
from collections.abc import Iterator
from uuid import UUID

from iommufd_py import BoundDevice, Coherency, Iommufd, MockDevice, VfioDevice, pci
from iommufd_py.base.pci_address import MOCK
from iommufd_py.mock import mock_flags

from .types import refuse_for_mock


@contextlib.contextmanager
def open_session(
    device: str | None, bind: bool, coherency: Coherency = Coherency.ANY, vf_token: UUID | None = None
) -> Iterator[tuple[Iommufd, BoundDevice | None]]:
    """Open an iommufd and bind *device*, if there is one, to it. *bind* holds the device on vfio-pci during the block.

    A mock device gets the wanted *coherency* if the kernel can make one. The coherency of a PCI device is fixed.
    """
    with contextlib.ExitStack() as stack:
        refuse_for_mock(device, bind=bind, vf_token=vf_token)
        if bind:
            stack.enter_context(pci.vfio_bound(str(device)))
        iommufd = stack.enter_context(Iommufd())
        if device is None:
            yield iommufd, None
        elif device == MOCK:
            yield iommufd, MockDevice(iommufd, mock_flags(iommufd, coherency))
        else:
            yield iommufd, VfioDevice(iommufd, device, vf_token=vf_token)
