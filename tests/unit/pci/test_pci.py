# SPDX-License-Identifier: MIT
"""The texts of the kernel that tell who uses a device, and the pci.ids format; the rest of pci runs in the lab."""

import pytest

from iommufd_py.host import iommu_options
from iommufd_py.host.features import parse_character_devices
from iommufd_py.pci.groups import IommuGroup, parse_reserved_regions
from iommufd_py.pci.names import parse_pci_ids
from iommufd_py.pci.network import parse_inet6_addresses, parse_routed_interfaces
from iommufd_py.pci.storage import parse_mounts, parse_swaps


def test_mounts_with_blanks_and_optional_fields() -> None:
    mounts = parse_mounts(
        "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n"
        "35 22 0:42 / /mnt/a\\040b rw - 9p share0 rw,trans=virtio\n"
    )
    assert [(one.number, one.source, one.target, one.type) for one in mounts] == [
        ("259:2", "/dev/nvme0n1p2", "/", "ext4"),
        ("0:42", "share0", "/mnt/a b", "9p"),
    ]


def test_swaps() -> None:
    text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/nvme0n1p3    partition\t65532\t\t0\t\t-2\n"
    assert parse_swaps(text) == ("/dev/nvme0n1p3",)
    assert parse_swaps(text.splitlines()[0]) == ()


def test_addresses_that_an_interface_gives_itself_do_not_count() -> None:
    text = (
        "fe800000000000005054fffffe123456 02 40 20 80     eth0\n"
        "20010db8000000000000000000000001 02 40 00 80     eth0\n"
        "00000000000000000000000000000001 01 80 10 80       lo\n"
    )
    assert parse_inet6_addresses(text) == {"eth0": ["2001:db8::1"], "lo": ["::1"]}


def test_routes() -> None:
    inet = "Iface\tDestination\tGateway\t...\neth1\t00000000\t0102000A\t0003\n"
    zero, gateway = "0" * 32, "fe80" + "0" * 27 + "1"
    line = "{zero} 00 {zero} 00 {next} 00000400 00000001 00000000 00000003 {name:>8}"
    inet6 = "\n".join(
        [line.format(zero=zero, next=gateway, name="eth2"), line.format(zero=zero, next=zero, name="eth3")]
    )
    assert parse_routed_interfaces(inet, inet6) == {"eth1", "eth2"}
    assert parse_routed_interfaces("", "") == frozenset()


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


def test_pci_ids() -> None:
    names = parse_pci_ids(
        [
            "# a comment\n",
            "\n",
            "1234  Technical Corp.\n",
            "\t11e8  QEMU edu\n",
            "\t\t1af4 1100  a subsystem\n",
            "1af4  Red Hat, Inc.\n",
            "C 01  Mass storage controller\n",
            "\t08  Non-Volatile memory controller\n",
            "\t\t02  NVM Express\n",
        ]
    )
    assert names.of_device("1234", "11e8") == "Technical Corp. QEMU edu"
    assert names.of_device("1af4", "1000") == "Red Hat, Inc."
    assert names.of_device("ffff", "0000") == ""
    assert names.of_class("010802") == "Non-Volatile memory controller"
    assert names.of_class("010400") == "Mass storage controller"


def test_character_devices_and_not_block_devices() -> None:
    text = "Character devices:\n  1 mem\n237 vfio-dev\n\nBlock devices:\n259 vfio\n"
    assert parse_character_devices(text) == {"mem", "vfio-dev"}


def test_options_of_the_command_line() -> None:
    line = "ro quiet intel_iommu=on,sm_on iommu.strict=1 vfio-pci.ids=1:2 vfio_iommu_type1.dma_entry_limit=9 x=iommu="
    assert iommu_options(line) == tuple(line.split()[2:-1])
