# SPDX-License-Identifier: MIT
"""Devices bound to an iommufd: what all have in common, and VFIO's character device."""

import struct
from dataclasses import dataclass

from iommufd_py.base.arguments import checked
from iommufd_py.base.coherency import Coherency, CoherencyEvidence
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.fault import FaultQueue
from iommufd_py.objects.hwpt import Hwpt, HwptData, NestedHwpt
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.object import IommufdDevice
from iommufd_py.objects.resource import Resource
from iommufd_py.objects.viommu import VIommu
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.enums import HwCapabilities, HwInfoType, HwptAllocFlags, VIommuType


@dataclass(frozen=True, slots=True)
class HwInfo:
    """The IOMMU in front of a device (IOMMU_GET_HW_INFO).

    Attributes:
        type: whose structure *data* is; an int that :class:`HwInfoType` does not name on a newer kernel.
        data: that structure, raw.
        capabilities: what the IOMMU and the device can do together.
        max_pasid_log2: width of the PASIDs the device may use, 0 for none.
    """

    type: HwInfoType | int
    data: bytes
    capabilities: HwCapabilities
    max_pasid_log2: int

    @property
    def vtd_registers(self) -> tuple[int, int] | None:
        """CAP and ECAP of a VT-d unit (struct iommu_hw_info_vtd), None for another IOMMU."""
        if self.type != HwInfoType.INTEL_VTD:
            return None
        cap, ecap = struct.unpack_from("=8xQQ", self.data)
        return cap, ecap


class BoundDevice(IommufdDevice):
    """A device bound to an iommufd, attached to at most one IOAS or HWPT at a time, and so is each of its PASIDs.

    Attributes:
        dev_id: its object id in the iommufd.
        attachments: what it is attached to now, by PASID; None is the device itself.
    """

    @checked
    def __init__(self, iommufd: Iommufd) -> None:
        super().__init__(iommufd)
        self.iommufd = iommufd
        self.dev_id = 0
        self.attachments: dict[int | None, Attachment] = {}

    @property
    def name(self) -> str:
        """What messages call the device."""
        raise NotImplementedError

    def _attach(self, pt_id: int, pasid: int | None) -> int:
        """Attach in place of any attachment before, and return the id of the HWPT."""
        raise NotImplementedError

    def _detach(self, pasid: int | None) -> None:
        raise NotImplementedError

    def hw_info(self) -> HwInfo:
        """Ask which IOMMU stands in front of the device."""
        self._check_open()
        answer = uapi.get_hw_info(self.iommufd.fileno(), self.dev_id)
        known = answer.data_type in HwInfoType.__members__.values()
        return HwInfo(
            type=HwInfoType(answer.data_type) if known else answer.data_type,
            data=answer.data,
            capabilities=answer.capabilities,
            max_pasid_log2=answer.max_pasid_log2,
        )

    @checked
    def alloc_hwpt(
        self,
        ioas: Ioas,
        *,
        flags: HwptAllocFlags = HwptAllocFlags(0),
        coherency: Coherency = Coherency.ANY,
        data: HwptData | None = None,
        fault_queue: FaultQueue | None = None,
    ) -> Hwpt:
        """Make a HWPT for this device over *ioas*, of the coherency asked for and with the evidence in it.

        Its IO page faults go to *fault_queue*; *data* is for the IOMMU's driver.

        Raises:
            CoherencyError: the HWPT came out otherwise, and is destroyed again; the text says which evidence
                disagrees and what to do.
        """
        self._check_open()
        # An IOAS that answered "coherent" before is decided by the new HWPT alone. One that did not cannot tell.
        ioas_decides = ioas.dma_cc()
        hwpt = Hwpt(ioas, self.dev_id, flags, data=data, fault_queue=fault_queue)
        try:
            dma_cc = ioas.dma_cc() if ioas_decides else self._dma_cc_alone(flags, data)
            registers = self.hw_info().vtd_registers
            hwpt.evidence = CoherencyEvidence(dma_cc, registers[1] if registers else None)
            hwpt.evidence.require(coherency, self.name)
        except BaseException:
            hwpt.close()
            raise
        return hwpt

    def _dma_cc_alone(self, flags: HwptAllocFlags, data: HwptData | None) -> bool:
        """Ask of an equal HWPT on an IOAS of its own."""
        with self.iommufd.alloc_ioas() as alone, Hwpt(alone, self.dev_id, flags, data=data):
            return alone.dma_cc()

    @checked
    def alloc_nested(
        self,
        parent: Hwpt | VIommu,
        data: HwptData,
        *,
        flags: HwptAllocFlags = HwptAllocFlags(0),
        fault_queue: FaultQueue | None = None,
    ) -> NestedHwpt:
        """Make a HWPT for this device whose page table, described by *data*, is translated again by *parent*."""
        self._check_open()
        return NestedHwpt(parent, self.dev_id, data, flags, fault_queue)

    @checked
    def alloc_viommu(self, parent: Hwpt, viommu_type: VIommuType | int, data: bytes = b"") -> VIommu:
        """Make a vIOMMU of the IOMMU before this device, over *parent*; *data* is the type's own structure."""
        self._check_open()
        return VIommu(self, parent, viommu_type, data)

    @checked
    def attach(self, target: Ioas | Hwpt | NestedHwpt, pasid: int | None = None) -> "Attachment":
        """Attach the device, or one *pasid* of it, in place of what it is attached to now.

        An IOAS gets a HWPT of the kernel's choice. Closing the attachment, or anything it stands on, detaches.
        """
        self._check_open()
        target._check_open()
        with held_signals():
            hwpt_id = self._attach(target.id, pasid)
            replaced = self.attachments.get(pasid)
            if replaced is not None:
                replaced._forget()
            attachment = self.attachments[pasid] = Attachment(self, target, pasid, hwpt_id)
        return attachment

    @checked
    def detach(self, pasid: int | None = None) -> None:
        """Detach the device, or one *pasid* of it; without effect if it is not attached."""
        self._check_open()
        if pasid in self.attachments:
            self.attachments[pasid].close()


class Attachment(Resource):
    """That a device, or one PASID of it, is attached to an IOAS or HWPT.

    Attributes:
        pasid: None for the device itself.
        hwpt_id: the HWPT in use; of an attached IOAS the one that the kernel chose.
    """

    def __init__(self, device: BoundDevice, target: Ioas | Hwpt | NestedHwpt, pasid: int | None, hwpt_id: int) -> None:
        super().__init__(device, target)
        self.device = device
        self.target = target
        self.pasid = pasid
        self.hwpt_id = hwpt_id
        self._opened()

    def __repr__(self) -> str:
        return f"Attachment({self.device!r}, {self.target!r})"

    def _release(self) -> None:
        del self.device.attachments[self.pasid]
        self.device._detach(self.pasid)
