# SPDX-License-Identifier: MIT
"""The areas of a process's memory in the form of /proc/PID/smaps, and the physical runs of its pages."""

import pytest

from iommufd_py.explain.memory import MemoryArea, MemoryKind, area_at, largest, parse_areas, runs_of

# From 7.3 in the lab: fields that nobody reads are left out.
SMAPS = """\
559c0a000000-559c0a010000 r-xp 00000000 00:15 1234                       /usr/bin/qemu system
Rss:                  64 kB
KernelPageSize:        4 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0040000000 rw-p 00000000 00:00 0
Size:            1048576 kB
Rss:              524288 kB
AnonHugePages:    262144 kB
KernelPageSize:        4 kB
Shared_Hugetlb:        0 kB
VmFlags: rd wr mr mw me ac
7f0080000000-7f00c0000000 rw-s 00000000 00:0f 5678                       /memfd:guest (deleted)
Rss:                   0 kB
KernelPageSize:     2048 kB
Shared_Hugetlb:  1048576 kB
VmFlags: rd wr sh mr mw me ms de ht
7f0100000000-7f0100004000 rw-s 00000000 00:05 17                         anon_inode:[vfio-device]
Rss:                   0 kB
KernelPageSize:        4 kB
VmFlags: rd wr sh mr mw me ms io dc dd
7f0200000000-7f0200004000 rw-s 00000000 00:01 99                         /memfd:x (deleted)
Rss:                  16 kB
KernelPageSize:        4 kB
VmFlags: rd wr sh mr mw me ms
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
Rss:                  16 kB
KernelPageSize:        4 kB
VmFlags: rd wr mr mw me gd ac
"""


def test_areas() -> None:
    program, guest, hugetlb, bar, shared, stack = parse_areas(SMAPS)
    assert program == MemoryArea(
        0x559C0A000000, 0x559C0A010000, "/usr/bin/qemu system", MemoryKind.FILE, 64 << 10, 4096, 0
    )
    assert guest == MemoryArea(0x7F0000000000, 0x7F0040000000, "", MemoryKind.ANONYMOUS, 512 << 20, 4096, 256 << 20)
    assert (hugetlb.kind, hugetlb.present, hugetlb.page_bytes) == (MemoryKind.HUGETLB, 1 << 30, 2 << 20)
    assert (bar.kind, shared.kind, stack.kind) == (MemoryKind.DEVICE, MemoryKind.SHARED, MemoryKind.ANONYMOUS)
    assert parse_areas("") == []


def test_the_largest_areas_are_those_that_matter() -> None:
    areas = parse_areas(SMAPS)
    assert [one.present for one in largest(areas)] == [1 << 30, 512 << 20]
    assert largest([]) == []


def test_area_of_an_address() -> None:
    areas = parse_areas(SMAPS)
    assert area_at(areas, 0x7F003FFFFFFF) == areas[1]
    assert area_at(areas, 0x7F0040000000) is None


@pytest.mark.parametrize(
    ("frames", "runs"),
    [
        ([5, 6, 7, 0, 8, 20, 21], {4096: 1, 8192: 1, 3 * 4096: 1}),
        ([5, 4, 3], {4096: 3}),
        ([9], {4096: 1}),
        ([0, 1], {4096: 1}),
        # Not present, or hidden: nothing is known.
        ([0, 0], None),
        ([], None),
    ],
)
def test_runs(frames: list[int], runs: dict[int, int] | None) -> None:
    assert runs_of(frames) == runs
