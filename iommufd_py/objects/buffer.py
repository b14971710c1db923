# SPDX-License-Identifier: MIT
"""User memory for DMA, in pages of a requested kind. The kind is checked."""

import errno
import mmap
import os
import random
import re
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path

from iommufd_py.base.arguments import check_integer, checked
from iommufd_py.base.errors import ArgumentValueError, BackingError, reason_of
from iommufd_py.base.sysfs import attribute_text, chosen_word, kernel_text
from iommufd_py.base.units import format_size
from iommufd_py.objects.mappable import Mappable
from iommufd_py.objects.pagemap import contiguous_runs, page_frames
from iommufd_py.uapi.cache import flush_lines
from iommufd_py.uapi.call import address_of_buffer
from iommufd_py.uapi.syscalls import MAX_NODE, memory_on_node

_SMALL = mmap.PAGESIZE
_HUGE_2M = 2 << 20
_HUGE_1G = 1 << 30
# From <linux/mman.h> and <linux/memfd.h>; Python's mmap module has no names for them before 3.14.
_MAP_HUGETLB = 0x40000
_MAP_HUGE_SHIFT = 26
_MADV_POPULATE_WRITE = 23

# Pages that another buffer takes at most while a buffer gets other pages. More take time and change little.
_MOST_TAKEN = 256
# The share of fragmented memory that may lie in longer runs than requested.
_MOST_LONGER = 0.05
# Page frames that are neighbours by chance after one order of touches are not after another order.
_ATTEMPTS = 8

_THP = Path("/sys/kernel/mm/transparent_hugepage")
_STATUS = Path("/proc/self/status")
_WITH_MEMORY = Path("/sys/devices/system/node/has_memory")
_POOL_FILES = ("nr_hugepages", "free_hugepages", "resv_hugepages")
_VMA = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ", re.MULTILINE)


class Backing(StrEnum):
    """The kind of memory of a buffer."""

    ANON_4K = "4k"
    """Anonymous memory in base pages, without transparent huge pages."""
    THP = "thp"
    """Anonymous memory in transparent 2M pages."""
    HUGETLB_2M = "hugetlb-2m"
    """Pages of 2M from the kernel's pool of huge pages (hugetlb)."""
    HUGETLB_1G = "hugetlb-1g"
    """Pages of 1G from the kernel's pool of huge pages (hugetlb)."""
    MEMFD = "memfd"
    """A shared memfd in base pages. IOMMU_IOAS_MAP_FILE can map its descriptor."""
    MEMFD_HUGETLB_2M = "memfd-hugetlb-2m"
    """A memfd in 2M pages, which many virtual machines use for their memory."""
    FRAGMENTED_1 = "fragmented-1"
    """Like ``4k``, but no page is physically next to another one, as on a machine with a long uptime."""
    FRAGMENTED_4 = "fragmented-4"
    """Like ``4k``, in physically contiguous runs of at most 4 pages."""
    FRAGMENTED_16 = "fragmented-16"
    """Like ``4k``, in physically contiguous runs of at most 16 pages."""

    @property
    def page_bytes(self) -> int:
        """Size of the pages; lengths are multiples of it."""
        return {
            Backing.THP: _HUGE_2M,
            Backing.HUGETLB_2M: _HUGE_2M,
            Backing.HUGETLB_1G: _HUGE_1G,
            Backing.MEMFD_HUGETLB_2M: _HUGE_2M,
        }.get(self, _SMALL)

    @property
    def run_pages(self) -> int | None:
        """Largest number of pages in a physically contiguous run of fragmented memory; None for other kinds."""
        return int(self.partition("-")[2]) if self.startswith("fragmented") else None


class DmaBuffer(Mappable):
    """User memory in pages of one kind. It is aligned to the page, and all pages are present from the start.

    close() first closes every mapping of the buffer, so that no device reaches memory that is freed.

    Args:
        length: bytes, a multiple of the backing's page.
        backing: the kind of pages, as a :class:`Backing` or its value (``"thp"``).
        prefault: whether the kernel supplies all pages now. Only then is their size checked, and only then is
            fragmented memory fragmented.
        node: NUMA node that all pages must come from, None for any.

    Raises:
        BackingError: the kernel has no such memory, or supplied pages of another size or in longer runs.
    """

    @checked
    def __init__(
        self, length: int, backing: Backing = Backing.ANON_4K, *, prefault: bool = True, node: int | None = None
    ) -> None:
        super().__init__()
        if length > sys.maxsize - _HUGE_2M:
            raise BackingError(f"a buffer of {length:#x} bytes does not fit into the address space of a process")
        if node is not None:
            check_integer("DmaBuffer(): node", node, 0, MAX_NODE)
        if length <= 0 or length % backing.page_bytes:
            raise BackingError(
                f"a {backing} buffer of {length} bytes is impossible: the length must be a positive multiple of "
                f"{format_size(backing.page_bytes)}"
            )
        self.length = length
        self.backing = backing
        self.fd: int | None = None
        self._offset = 0
        with self._opening():
            self._memory = self._reserve()
        try:
            self.user_va = address_of_buffer(self._memory) + self._offset
            if node is not None:
                self._bind(node)
            if prefault:
                self._populate()
                self._check_pages()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"DmaBuffer({format_size(self.length)}, {self.backing})"

    @property
    def view(self) -> memoryview:
        """The writable memory. Release the view before you close the buffer."""
        self._check_open()
        return memoryview(self._memory)[self._offset : self._offset + self.length]

    @checked
    def flush(self, offset: int = 0, length: int | None = None) -> None:
        """Write the CPU's cache lines of a range back to memory and drop them, before a device reads memory.

        A device whose DMA does not snoop reads data that was written after the map only after this call. The call also
        flushes lines that lie partly in the range.

        Args:
            offset: start of the range.
            length: length of the range in bytes; by default to the end.

        Raises:
            BackingError: user space of this CPU has no such instruction.
        """
        length = self.length - offset if length is None else length
        self.check_range(offset, length)
        flush_lines(self.user_va + offset, length)

    @checked
    def invalidate(self, offset: int = 0, length: int | None = None) -> None:
        """Make the CPU read a range from memory, after a device wrote there whose DMA does not snoop.

        x86 has no instruction that drops a line without writing it back. A dirty line would overwrite the device's
        data, so call :meth:`flush` before the DMA too. Arguments and errors are those of :meth:`flush`.
        """
        self.flush(offset, length)

    @checked
    def give_back(self, offset: int, length: int) -> None:
        """Give pages back to the kernel. The next touch gets new, cleared pages.

        Raises:
            ArgumentValueError: the range does not consist of whole pages, or is not inside the buffer.
        """
        self.check_range(offset, length)
        # The kernel would refuse the offset, and round up the length: it would clear bytes behind the range.
        page = _SMALL if self.backing is Backing.THP else self.backing.page_bytes
        if offset % page or length % page:
            raise ArgumentValueError(
                f"{length} bytes from offset {offset} are not whole pages of {format_size(page)}: give multiples"
            )
        if not length:
            return  # Python's mmap refuses the end of the buffer as a start.
        # MADV_DONTNEED would only unmap a file's pages: the file would keep them, with their content.
        advice = mmap.MADV_DONTNEED if self.fd is None else mmap.MADV_REMOVE
        self._memory.madvise(advice, self._offset + offset, length)

    def replace_pages(self) -> None:
        """Give all pages back to the kernel, and take others. The contents are lost.

        The physical places of the pages change the times of a map by some percent, so a benchmark replaces them. A
        mapping keeps the old pages: unmap the buffer first.

        Raises:
            BackingError: the kernel has not enough memory of this kind.
        """
        self.give_back(0, self.length)
        # The kernel hands out the pages that were freed last, in reverse order: two calls would restore the old order.
        # So another buffer, of a random size, takes some of them first.
        with DmaBuffer(random.randint(1, min(1 + self.length // (4 * _SMALL), _MOST_TAKEN)) * _SMALL):
            self._populate()

    def huge_bytes(self) -> int:
        """Return the number of bytes in transparent huge pages now (AnonHugePages in /proc/self/smaps)."""
        self._check_open()
        return self._smaps("AnonHugePages")

    @checked
    def frames(self, offset: int = 0, length: int | None = None) -> list[int]:
        """Return the frame number of each base page: 0 for a page that is not present, and for every page without
        root.

        Args:
            offset: start of the range.
            length: length of the range in bytes; by default to the end.

        Raises:
            ToolError: too many files are open.
        """
        self._check_open()
        length = self.length - offset if length is None else length
        self.check_range(offset, length)
        return page_frames("self", self.user_va + offset, length)

    def physical_runs(self) -> Counter[int] | None:
        """Count the physically contiguous runs of the memory by their length in base pages.

        The kernel maps and flushes run by run, so two buffers of equal size with different runs are different work.
        Return None without root, because the kernel shows frame numbers to root only.
        """
        numbers = self.frames()
        return contiguous_runs(numbers) if all(numbers) else None

    def _reserve(self) -> mmap.mmap:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        try:
            if self.backing in (Backing.MEMFD, Backing.MEMFD_HUGETLB_2M):
                huge = os.MFD_HUGETLB | os.MFD_HUGE_2MB if self.backing is Backing.MEMFD_HUGETLB_2M else 0
                self.fd = os.memfd_create("iommufd-py", os.MFD_CLOEXEC | huge)
                os.ftruncate(self.fd, self.length)
                return mmap.mmap(self.fd, self.length, flags=mmap.MAP_SHARED)
            if self.backing in (Backing.HUGETLB_2M, Backing.HUGETLB_1G):
                size_code = self.backing.page_bytes.bit_length() - 1
                return mmap.mmap(-1, self.length, flags=private | _MAP_HUGETLB | size_code << _MAP_HUGE_SHIFT)
            if self.backing is Backing.THP:
                return self._reserve_thp(private)
            memory = mmap.mmap(-1, self.length, flags=private)
            if _THP.exists():
                memory.madvise(mmap.MADV_NOHUGEPAGE)
            return memory
        except OSError as failure:
            if self.fd is not None:
                os.close(self.fd)
            raise BackingError(self._refusal(failure)) from failure

    def _reserve_thp(self, flags: int) -> mmap.mmap:
        refusal = thp_refusal(_THP, kernel_text(_STATUS))
        if refusal is not None:
            raise BackingError(refusal)
        # Python cannot choose the address, so allocate one more huge page and use the aligned part.
        memory = mmap.mmap(-1, self.length + _HUGE_2M, flags=flags)
        self._offset = -address_of_buffer(memory) % _HUGE_2M
        memory.madvise(mmap.MADV_HUGEPAGE, self._offset, self.length)
        return memory

    def _refusal(self, failure: OSError) -> str:
        size = format_size(self.backing.page_bytes)
        directory = f"/sys/kernel/mm/hugepages/hugepages-{self.backing.page_bytes >> 10}kB"
        if self.backing.page_bytes != _SMALL and not Path(directory).exists():
            return f"this kernel has no {size} huge pages; choose another backing"
        # Transparent huge pages do not come from the pool.
        if self.backing.page_bytes == _SMALL or self.backing is Backing.THP or failure.errno != errno.ENOMEM:
            remedy = "; ask for less" if failure.errno == errno.ENOMEM else ""
            return f"no {self.backing} memory of {format_size(self.length)}: {reason_of(failure)}{remedy}"
        return pool_remedy(self.length, self.backing.page_bytes, Path(directory))

    def _bind(self, node: int) -> None:
        try:
            memory_on_node(self.user_va, self.length, node)
        except OSError as failure:
            raise BackingError(
                f"NUMA node {node} has no memory for this process: {_WITH_MEMORY} lists the nodes with memory"
            ) from failure

    def _populate(self) -> None:
        for attempt in range(_ATTEMPTS):
            self._populate_parts(self._touches(attempt))
            longer = self._pages_in_longer_runs()
            if not longer:
                return
            self.give_back(0, self.length)
        raise BackingError(
            f"{longer} of {self.length // _SMALL} pages came in physically contiguous runs of more than "
            f"{self.backing.run_pages} pages, {_ATTEMPTS} times: try again, or choose another backing"
        )

    def _populate_parts(self, parts: list[tuple[int, int]]) -> None:
        try:
            for start, length in parts:
                self._memory.madvise(_MADV_POPULATE_WRITE, self._offset + start, length)
        except OSError as failure:
            raise BackingError(
                f"the kernel cannot supply {format_size(self.length)} of {self.backing} memory: {failure.strerror}; "
                "ask for less or free some"
            ) from failure

    def _touches(self, attempt: int) -> list[tuple[int, int]]:
        """Return the parts (offset, bytes) of the buffer in the order in which to touch them.

        The kernel mostly allocates page frames in ascending order. So pages that are touched one after the other form a
        run, and neighbours that are touched at different times do not.
        """
        if self.backing.run_pages is None:
            return [(0, self.length)]
        step = self.backing.run_pages * _SMALL
        parts = [(start, min(step, self.length - start)) for start in range(0, self.length, step)]
        even, odd = parts[::2], parts[1::2]
        # The order is the same in every process, so that two measurements do the same work.
        chance = random.Random(attempt)
        chance.shuffle(even)
        chance.shuffle(odd)
        if odd and even[0][0] == odd[-1][0] + step:
            even.reverse()
        return odd + even

    def _pages_in_longer_runs(self) -> int:
        """Return the number of pages of fragmented memory in too long runs; 0 if they are few or unknown."""
        limit = self.backing.run_pages
        runs = self.physical_runs() if limit else None
        if limit is None or runs is None:
            return 0
        longer = sum(length * count for length, count in runs.items() if length > limit)
        return longer if longer * _SMALL > self.length * _MOST_LONGER else 0

    def _check_pages(self) -> None:
        if self.backing is Backing.THP and self.huge_bytes() < self.length:
            raise BackingError(
                f"only {format_size(self.huge_bytes())} of {format_size(self.length)} are in transparent huge pages, "
                "because memory is fragmented: echo 1 > /proc/sys/vm/compact_memory, or use hugetlb-2m"
            )
        if self.backing.page_bytes != _SMALL and self.backing is not Backing.THP:
            page = self._smaps("KernelPageSize")
            if page != self.backing.page_bytes:
                raise BackingError(f"the pages are {format_size(page)}, not {format_size(self.backing.page_bytes)}")

    def _smaps(self, field: str) -> int:
        """Sum *field* of the VMAs that overlap the buffer, in bytes."""
        text = kernel_text(Path("/proc/self/smaps"))
        total = 0
        for vma in _VMA.finditer(text):
            start, end = (int(bound, 16) for bound in vma.groups())
            if start < self.user_va + self.length and self.user_va < end:
                at = text.index(f"\n{field}:", vma.end())
                total += int(text[at : text.index("\n", at + 1)].split()[1]) << 10
        return total

    def _release(self) -> None:
        try:
            self._memory.close()
        except BufferError:
            raise BackingError(f"{self!r} cannot be closed while a view of it exists: release the view first") from None
        if self.fd is not None:
            os.close(self.fd)


def thp_refusal(settings: Path, status: str) -> str | None:
    """Return why this process gets no transparent 2M pages, also after madvise(), with a remedy; None if it gets them.

    Args:
        settings: directory of the kernel's settings.
        status: text of /proc/self/status.
    """
    for_all, for_2m = settings / "enabled", settings / "hugepages-2048kB/enabled"
    if not for_all.exists():
        return "this kernel has no transparent huge pages; choose another backing"
    # Since Linux 6.8 each size has a setting of its own, which is "inherit" or counts alone.
    own = chosen_word(attribute_text(for_2m))
    decides = for_all if own in ("", "inherit") else for_2m
    if chosen_word(attribute_text(decides)) == "never":
        return f"transparent huge pages are off: echo madvise > {decides}"
    if re.search(r"^THP_enabled:\s*0$", status, re.MULTILINE):
        return (
            "transparent huge pages are off for this process, because its parent set PR_SET_THP_DISABLE: start it from "
            "another shell, or use hugetlb-2m"
        )
    return None


def pool_remedy(length: int, page_bytes: int, pool: Path) -> str:
    """Return the number of huge pages that a pool lacks for *length* bytes, and the command that adds them.

    The command sets the size of the whole pool, which includes the pages in use. With a smaller size the kernel removes
    free pages.
    """
    pages, size = length // page_bytes, format_size(page_bytes)
    total, free, reserved = (int(kernel_text(pool / name)) for name in _POOL_FILES)
    available = max(free - reserved, 0)
    if available >= pages:
        return (
            f"{pages} free {size} huge pages are needed for {format_size(length)}, and {available} are free, but a "
            "limit forbids their use: raise it (ulimit -v, or hugetlb of the cgroup)"
        )
    return (
        f"{pages} free {size} huge pages are needed for {format_size(length)}, and {available} are free: "
        f"echo {total - available + pages} > {pool}/nr_hugepages, if there is memory for them, or map less"
    )
