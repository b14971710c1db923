# SPDX-License-Identifier: MIT
"""Features of the running kernel."""

from iommufd_py.host import iommu_options
from iommufd_py.host.features import parse_character_devices


def test_character_devices_and_not_block_devices() -> None:
    text = "Character devices:\n  1 mem\n237 vfio-dev\n\nBlock devices:\n259 vfio\n"
    assert parse_character_devices(text) == {"mem", "vfio-dev"}


def test_options_of_the_command_line() -> None:
    line = "ro quiet intel_iommu=on,sm_on iommu.strict=1 vfio-pci.ids=1:2 vfio_iommu_type1.dma_entry_limit=9 x=iommu="
    assert iommu_options(line) == tuple(line.split()[2:-1])
