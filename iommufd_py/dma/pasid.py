# SPDX-License-Identifier: MIT
"""Attach a device, or one PASID of it, to the address space of its DMA."""

from iommufd_py.base.errors import ArgumentValueError, SkipError
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.ioas import Ioas
from iommufd_py.uapi.enums import HwptAllocFlags


def attach_for_dma(device: BoundDevice, ioas: Ioas, pasid: int | None) -> None:
    """Attach *device* to *ioas* by a HWPT, or only one PASID of it, as :func:`attach_pasid` does."""
    if pasid is None:
        device.attach(device.alloc_hwpt(ioas))
    else:
        attach_pasid(device, ioas, pasid)


def attach_pasid(device: BoundDevice, ioas: Ioas, pasid: int) -> None:
    """Attach one PASID of *device* to *ioas*. The device itself gets an IOAS without mappings.

    So the IOMMU stops the device's DMA without a PASID. The kernel requires a HWPT for PASIDs on both sides.

    Raises:
        SkipError: the device has no PASIDs.
        ArgumentValueError: *pasid* is wider than the device's PASIDs.
    """
    width = device.hw_info().max_pasid_log2
    if not width:
        raise SkipError(
            f"{device.name} has no PASIDs: the device needs the PASID capability, and its IOMMU a kernel that uses "
            "PASIDs (on VT-d the parameter intel_iommu=sm_on)"
        )
    if pasid >> width:
        raise ArgumentValueError(f"{device.name} has PASIDs up to {(1 << width) - 1}, not {pasid}")
    without_mappings = device.iommufd.alloc_ioas()
    device.attach(device.alloc_hwpt(without_mappings, flags=HwptAllocFlags.PASID))
    device.attach(device.alloc_hwpt(ioas, flags=HwptAllocFlags.PASID), pasid)
