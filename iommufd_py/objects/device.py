# SPDX-License-Identifier: MIT
"""Devices that are bound to an iommufd, and their attachments."""

import struct
from dataclasses import dataclass

from iommufd_py.base.arguments import checked
from iommufd_py.base.coherency import Coherency, CoherencyEvidence
from iommufd_py.base.errors import NotSupportedError
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.fault import FaultQueue
from iommufd_py.objects.hwpt import Hwpt, HwptData, NestedHwpt
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.object import IommufdDevice, check_same_iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.objects.viommu import VIommu
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.enums import HwCapabilities, HwInfoType, HwptAllocFlags, VIommuType


@dataclass(frozen=True, slots=True)
class HwInfo:
    """The IOMMU in front of a device (IOMMU_GET_HW_INFO).

    Attributes:
        type: the kind of structure in *data*; a plain int if a newer kernel has a type that :class:`HwInfoType` lacks.
        data: the structure, as bytes.
        capabilities: the features that both the IOMMU and the device have.
        max_pasid_log2: width in bits of the PASIDs that the device may use, 0 for none.
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

    @property
    def amd_registers(self) -> tuple[int, int] | None:
        """EFR and EFR2 of an AMD IOMMU (struct iommu_hw_info_amd), None for another IOMMU."""
        if self.type != HwInfoType.AMD:
            return None
        efr, efr2 = struct.unpack_from("=QQ", self.data)
        return efr, efr2


class BoundDevice(IommufdDevice):
    """A device that is bound to an iommufd. It, and each of its PASIDs, is attached to one IOAS or HWPT, or to none.

    Attributes:
        dev_id: its object id in the iommufd.
        attachments: its present attachments by PASID; the key None stands for the device itself.
    """

    @checked
    def __init__(self, iommufd: Iommufd) -> None:
        super().__init__(iommufd)
        self.iommufd: Iommufd = iommufd
        self.dev_id = 0
        self.attachments: dict[int | None, Attachment] = {}

    @property
    def name(self) -> str:
        """The name of the device in messages."""
        raise NotImplementedError

    def _attach(self, pt_id: int, pasid: int | None) -> int:
        """Attach, which replaces a previous attachment, and return the id of the HWPT."""
        raise NotImplementedError

    def _detach(self, pasid: int | None) -> None:
        raise NotImplementedError

    def hw_info(self) -> HwInfo:
        """Return the type and capabilities of the IOMMU in front of the device."""
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
        """Make a HWPT for this device over *ioas*, and record in it the evidence for its coherency.

        Args:
            ioas: the mappings that fill the HWPT.
            flags: features that the HWPT must have.
            coherency: the coherency that the HWPT must have, as a :class:`Coherency` or its value.
            data: the structure for the IOMMU's driver.
            fault_queue: receives the IO page faults.

        Raises:
            CoherencyError: the HWPT has another coherency than requested. It is destroyed again; the text names the
                evidence and the remedy.
        """
        self._check_open()
        check_same_iommufd(self.iommufd, "alloc_hwpt", ioas=ioas, fault_queue=fault_queue)
        # If the IOAS answers "coherent" now, the new HWPT alone decides its next answer. Otherwise it cannot tell.
        ioas_decides = ioas.dma_cc()
        hwpt = Hwpt(ioas, self.dev_id, flags, data=data, fault_queue=fault_queue)
        try:
            dma_cc = ioas.dma_cc() if ioas_decides else self._dma_cc_alone(flags, data)
            hwpt.evidence = CoherencyEvidence(dma_cc, self._ecap())
            hwpt.evidence.require(coherency, self.name)
        except BaseException:
            hwpt.close()
            raise
        return hwpt

    def _ecap(self) -> int | None:
        """Return ECAP of the VT-d unit, None for another IOMMU and for none."""
        try:
            registers = self.hw_info().vtd_registers
        except NotSupportedError:  # The device has no IOMMU.
            return None
        return registers[1] if registers else None

    def _dma_cc_alone(self, flags: HwptAllocFlags, data: HwptData | None) -> bool:
        """Make a HWPT with the same *flags* and *data* on a new IOAS, and return its VFIO_DMA_CC_IOMMU."""
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
        """Make a nested HWPT for this device: *data* describes its page table, *parent* translates its addresses."""
        self._check_open()
        check_same_iommufd(self.iommufd, "alloc_nested", parent=parent, fault_queue=fault_queue)
        return NestedHwpt(parent, self.dev_id, data, flags, fault_queue)

    @checked
    def alloc_viommu(self, parent: Hwpt, viommu_type: VIommuType | int, data: bytes = b"") -> VIommu:
        """Make a vIOMMU of the IOMMU before this device, over *parent*; *data* is the type's own structure."""
        self._check_open()
        check_same_iommufd(self.iommufd, "alloc_viommu", parent=parent)
        return VIommu(self, parent, viommu_type, data)

    @checked
    def attach(self, target: Ioas | Hwpt | NestedHwpt, pasid: int | None = None) -> "Attachment":
        """Attach the device, or one *pasid* of it, to *target*; this replaces its present attachment.

        For an IOAS the kernel chooses or makes the HWPT. Closing the attachment, the device or the target detaches.
        """
        self._check_open()
        target._check_open()
        check_same_iommufd(self.iommufd, "attach", target=target)
        with held_signals():
            hwpt_id = self._attach(target.id, pasid)
            replaced = self.attachments.get(pasid)
            if replaced is not None:
                replaced._mark_closed()
            attachment = self.attachments[pasid] = Attachment(self, target, pasid, hwpt_id)
        return attachment

    @checked
    def detach(self, pasid: int | None = None) -> None:
        """Detach the device, or one *pasid* of it; without effect if it is not attached."""
        self._check_open()
        if pasid in self.attachments:
            self.attachments[pasid].close()


class Attachment(Resource):
    """An active attachment of a device, or of one of its PASIDs, to an IOAS or HWPT. Made by ``device.attach()``.

    Attributes:
        pasid: the PASID, None for the device itself.
        hwpt_id: the HWPT in use; for an IOAS, the one that the kernel chose.
    """

    @checked
    def __init__(self, device: BoundDevice, target: Ioas | Hwpt | NestedHwpt, pasid: int | None, hwpt_id: int) -> None:
        super().__init__(device, target)
        self.device = device
        self.target = target
        self.pasid = pasid
        self.hwpt_id = hwpt_id
        self._mark_open()

    def __repr__(self) -> str:
        return f"Attachment({self.device!r}, {self.target!r})"

    def _release(self) -> None:
        del self.device.attachments[self.pasid]
        self.device._detach(self.pasid)
