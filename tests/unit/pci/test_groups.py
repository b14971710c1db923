# SPDX-License-Identifier: MIT
"""IOMMU groups: reserved regions, and drivers that block VFIO."""

import pytest

from iommufd_py.pci.groups import IommuGroup, parse_reserved_regions


def test_reserved_regions() -> None:
    (rmrr, msi) = parse_reserved_regions(
        "0x000000007b800000 0x000000007fffffff direct-relaxable\n0x00000000fee00000 0x00000000feefffff msi\n"
    )
    assert (rmrr.range.start, rmrr.range.last, rmrr.type) == (0x7B800000, 0x7FFFFFFF, "direct-relaxable")
    assert msi.type == "msi"


@pytest.mark.parametrize("driver", ["", "vfio-pci", "mlx5_vfio_pci", "pcieport", "pci-stub"])
def test_drivers_that_leave_dma_alone_are_not_in_the_way(driver: str) -> None:
    group = IommuGroup(3, "DMA", {"0000:01:00.0": driver, "0000:01:00.1": "snd_hda_intel"}, ())
    assert group.in_the_way == {"0000:01:00.1": "snd_hda_intel"}
