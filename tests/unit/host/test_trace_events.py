# SPDX-License-Identifier: MIT
"""Fields of trace events, in the forms that 7.3 prints in the lab."""

import pytest

from iommufd_py.host.trace_events import event_fields


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            "IOMMU: iova=0x0000000100000000 - 0x0000000100004000 paddr=0x0000000001000000 size=16384",
            {"iova": 1 << 32, "iova_end": (1 << 32) + 16384, "paddr": 1 << 24, "size": 16384},
        ),
        (
            "IOMMU: iova=0x0000000000001000 - 0x0000000000002000 size=4096 unmapped_size=4096",
            {"iova": 4096, "iova_end": 8192, "size": 4096, "unmapped_size": 4096},
        ),
        ("IOMMU: device=0000:00:10.0", {"device": "0000:00:10.0"}),
        (
            "IOMMU:vfio-pci 0000:00:10.0 iova=0x0000000000001000 flags=0x0001",
            {"driver": "vfio-pci", "device": "0000:00:10.0", "iova": 4096, "flags": 1},
        ),
        (
            "dmar0 0000:00:10.0[0] type iotlb did 2 [0x100000000-0x100003fff] addr 0x100000000 mask 0x2",
            {
                "iommu": "dmar0",
                "device": "0000:00:10.0",
                "pasid": 0,
                "type": "iotlb",
                "did": 2,
                "start": 1 << 32,
                "end": (1 << 32) + 0x3FFF,
                "addr": 1 << 32,
                "mask": 2,
            },
        ),
        (
            "dmar0/0000:00:10.0 type iotlb did 2 pasid 0 ref 1",
            {"iommu": "dmar0", "device": "0000:00:10.0", "type": "iotlb", "did": 2, "pasid": 0, "ref": 1},
        ),
        ("(arch_flush_cache_phys+0x0/0x280) phys=0x1d888000 length=4096", {"phys": 0x1D888000, "length": 4096}),
        ("", {}),
    ],
)
def test_fields(text: str, fields: dict[str, int | str]) -> None:
    assert event_fields(text) == fields
