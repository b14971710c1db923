# SPDX-License-Identifier: MIT
"""Damaged texts of the kernel: cut off, joined, with foreign characters. A reader leaves a part out or says so."""

import gzip
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from iommufd_py.base.errors import DeviceError, ToolError
from iommufd_py.dma.faults import parse_dma_faults
from iommufd_py.explain.memory import parse_areas
from iommufd_py.explain.process import parse_memlock
from iommufd_py.host.environment import read_timing_options
from iommufd_py.host.features import parse_character_devices
from iommufd_py.host.kernel_log import scan_dma_faults, scan_kernel_log
from iommufd_py.host.kmsg import record_text
from iommufd_py.host.page_tables import PageTables, parse_page_tables
from iommufd_py.host.trace_records import parse_trace
from iommufd_py.lab.tap import parse_kunit, parse_tap
from iommufd_py.pci.groups import parse_reserved_regions
from iommufd_py.pci.lending import parse_holder
from iommufd_py.pci.names import parse_pci_ids
from iommufd_py.pci.users.display import parse_consoles
from iommufd_py.pci.users.memory import parse_resources
from iommufd_py.pci.users.mounts import parse_mounts, parse_swaps
from iommufd_py.pci.users.namespaces import parse_link
from iommufd_py.pci.users.network import parse_packet_sockets
from iommufd_py.pci.users.openers import parse_local_file_systems
from iommufd_py.vtd.leaves import parse_leaf_sizes
from iommufd_py.vtd.units import parse_translation_modes

_ROUNDS = 200
# Python reads more as a number than the kernel writes, and refuses thousands of digits.
_FOREIGN = (
    "\x1b[31m", "\0", "\udcff", "\u0663", "\u00b2", "-1", "9" * 5000, "nan", "1e9", "\t", "\u2028", "\x1c", "\n", ":",
    "|", "[", " - ", "(null)", "f" * 40, "1.2.3", "\r\n", "0x",
)  # fmt: skip
LEAVES = "IOVA_PFN\t\tPML5E\n0x0000000100000 |\t0x0\t0x10d4fd003\t0x10d4fe003\t0x10d4ff003\t0x10d500003\n"
MOUNTS = "36 35 98:0 /a /mnt rw master:1 - ext3 /dev/root rw\n21 1 0:5 / /a\\040b rw - tmpfs tmpfs rw\n"
REGIONS = "0x00000000fee00000 0x00000000feefffff msi\n0x0 0xfff direct\n"


def by_line(read: Callable[[list[str]], Any]) -> Callable[[str], Any]:
    """Return the reader of lines as a reader of a whole text."""
    return lambda text: read(text.splitlines())


READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "modes": (parse_translation_modes, "IOMMU: dmar0 Register Base Address: fed90000\nRTADDR\t0x20\t0x10cf5b400\n"),
    "leaves": (by_line(lambda lines: parse_leaf_sizes(lines, 0, 1 << 40)), LEAVES),
    "tap": (by_line(parse_tap), "TAP version 13\n1..3\nok 1 a.b\nnot ok 2 c\nok 3 d # SKIP why\n"),
    "kunit": (by_line(parse_kunit), "[ 1.0]     # Subtest: pt\n[ 1.0]     1..2\n[ 1.1]     ok 1 x\n[ 1] not ok 1 y\n"),
    "limits": (parse_memlock, "Limit  Soft\nMax locked memory         8388608              8388608       bytes\n"),
    "smaps": (parse_areas, "7f00-7f10 rw-p 0 00:00 0    [heap]\nRss:     4 kB\nKernelPageSize:    4 kB\nVmFlags: rd\n"),
    "faults": (parse_dma_faults, "[ 1.3] DMAR: [DMA Write NO_PASID] Request device [00:12.0] fault addr 0x1000 "
               "[fault reason 0x05] PTE Write access is not set\n"),
    "meminfo": (lambda text: parse_page_tables(text, text, 4096), "SecPageTables:     12 kB\nnr_iommu_pages 12\n"),
    "config": (lambda text: read_timing_options(text.encode("utf-8", "surrogateescape")), "CONFIG_HZ=1\nCONFIG_X=y\n"),
    "devices": (parse_character_devices, "Character devices:\n  1 mem\n510 vfio\n\nBlock devices:\n  8 sd\n"),
    "trace": (by_line(lambda lines: list(parse_trace(lines))), "# x\n  python3-123  [001] ..... 12.3: map: iova=0x1\n"),
    "log": (scan_kernel_log, "[ 1] ---[ cut here ]---\n[ 1.0] WARNING: at x.c:1\n[ 1.0] ---[ end trace 0 ]---\n"),
    "amd": (scan_dma_faults, "[1.0] AMD-Vi: Event logged [IO_PAGE_FAULT device=00:12.0]\n"),
    "filesystems": (parse_local_file_systems, "nodev\tsysfs\n\text4\n\tfuseblk\n"),
    "mounts": (parse_mounts, MOUNTS),
    "swaps": (parse_swaps, "Filename\tType\n/swap\\040x  file 1 2 3\n/dev/sda2\tpartition\n"),
    "regions": (parse_reserved_regions, REGIONS),
    "pci.ids": (by_line(parse_pci_ids), "8086  Intel\n\t1234  X\nC 01  Mass\n\t08  NVM\n"),
    "consoles": (parse_consoles, "ttyS0                -W- (EC p a)    4:64\nhvc0 -W- (E)\n"),
    "iomem": (parse_resources, "00001000-0009ffff : System RAM\n  0009-000a : x : y\n"),
    "locks": (lambda text: parse_holder(text, 123), "1: FLOCK  ADVISORY  WRITE 1234 00:18:123 0 EOF\n"),
    "packet": (parse_packet_sockets, "sk  RefCnt Type Proto  Iface R\n000000 3      3    0003   2     1 0  0  123\n"),
}  # fmt: skip


def damaged(text: str) -> Iterator[str]:
    """Yield texts with one or two damages, the same ones in each run."""
    random_source = random.Random(20261126)
    for number in range(_ROUNDS):
        spoiled = text
        for _ in range(1 + number % 2):
            first, last = sorted(random_source.randrange(len(spoiled) + 1) for _ in range(2))
            part = random_source.choice(("", spoiled[first:last], *_FOREIGN))
            spoiled = spoiled[:first] + part * random_source.randrange(3) + spoiled[last:]
        yield spoiled


@pytest.mark.parametrize("name", READERS)
def test_a_reader_survives_damage(name: str) -> None:
    read, text = READERS[name]
    assert read(text) is not None
    for spoiled in damaged(text):
        try:
            read(spoiled)
        except ToolError as refusal:
            assert "\n" not in str(refusal)
        except ValueError as refusal:
            assert (name, str(refusal)) == ("config", "no configuration of a kernel")


def test_a_count_without_an_unread_leaf_is_not_given() -> None:
    assert parse_leaf_sizes(LEAVES.splitlines(), 0, 1 << 40) == {4096: 1}
    cut = LEAVES.rstrip()[: LEAVES.index("0x10d4fe003")]
    assert parse_leaf_sizes(cut.splitlines(), 0, 1 << 40) is None


def test_a_lost_line_is_not_taken_for_a_free_device() -> None:
    with pytest.raises(DeviceError, match="table of mounts has a line of unknown form: '21 1 0:5'"):
        parse_mounts(MOUNTS[: MOUNTS.index(" / /a")])
    with pytest.raises(DeviceError, match="table of reserved regions has a line of unknown form: '0x0'"):
        parse_reserved_regions(REGIONS[: REGIONS.index(" 0xfff")])


def test_a_number_beyond_64_bits_is_unknown() -> None:
    huge = "9" * 5000
    assert parse_page_tables(f"SecPageTables: {huge} kB\n", "", 4096) == PageTables(None, None)
    assert parse_memlock(f"Max locked memory  {huge}  {huge} bytes\n") is None
    assert parse_tap([f"1..{huge}", "ok 1 a"]).planned == 0


@pytest.mark.parametrize("length", [0, 1, 10, 20, 40])
def test_a_damaged_configuration_is_refused_as_such(length: int) -> None:
    packed = gzip.compress(b"CONFIG_HZ=1000\nCONFIG_NUMA=y\n")
    with pytest.raises((OSError, EOFError) if length >= 2 else ValueError):
        read_timing_options(packed[:length])


def test_a_record_without_a_time_keeps_its_message() -> None:
    assert record_text(b"6,339,5140900,-;x\n") == "[    5.140900] x"
    assert record_text(b"6,3x,-;x\n") == "x"
    assert record_text(b"6,339,5140900,-,caller=C1;x\n") == "[    5.140900] [    C1] x"
    assert record_text(b"6,339,5140900,-,caller=;x\n") == "[    5.140900] x"
    assert record_text(b"6,339,5140900,-,other=1,caller=T71,more;a\\x0ab\n").split("\n") == [
        "[    5.140900] [   T71] a",
        "[    5.140900] [   T71] b",
    ]
    assert record_text(b"") == ""


def test_a_link_that_is_cut_off() -> None:
    whole = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + struct.pack("=HHI", 8, 5, 3)
    assert parse_link(whole).lower == 3
    for length in range(len(whole)):
        assert parse_link(whole[:length]).lower == 0
