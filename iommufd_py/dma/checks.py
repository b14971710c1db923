# SPDX-License-Identifier: MIT
"""Cases that check whether a device's DMA reaches the memory of the mapping, and no other; one function each.

A case returns a remark. It raises MismatchError or DmaError if the DMA violates the mapping, and SkipError if the
device cannot do the transfers of the case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from iommufd_py.base.errors import BackingError, DmaError, SkipError
from iommufd_py.base.units import PAGE_BYTES, round_up
from iommufd_py.dma.faults import DmaFault
from iommufd_py.dma.harness import Harness, MismatchError, Window
from iommufd_py.objects.buffer import Backing
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.uapi.enums import MapFlags

_2M = 2 << 20
_ROUNDS = 16


class CaseOutcome(StrEnum):
    """Verdict on a case."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Result of one case.

    Attributes:
        name: name of the case.
        verdict: whether the DMA stayed within the mapping.
        remark: the observation; for a skipped case, the reason.
        faults: DMA that the IOMMU stopped during the case, according to the kernel log.
    """

    name: str
    verdict: CaseOutcome
    remark: str
    faults: tuple[DmaFault, ...]


Case = Callable[[Harness], str]


def write_page(harness: Harness) -> str:
    """The device writes a whole page, 4 KiB."""
    return _check_write(harness, harness.place(3 * PAGE_BYTES) + PAGE_BYTES, PAGE_BYTES)


def write_sub_page(harness: Harness) -> str:
    """The device writes less than a page, inside one page."""
    return _check_write(harness, harness.place(PAGE_BYTES) + 0x124, 0x5A4)


def write_across_pages(harness: Harness) -> str:
    """The device writes across a page boundary, and across several boundaries if one transfer can be long enough."""
    _check_write(harness, harness.place(2 * PAGE_BYTES) + PAGE_BYTES - 0x34, 0x68)
    most = harness.engine.writes.fit(9 * PAGE_BYTES + 0x80)
    return _check_write(harness, harness.place(12 * PAGE_BYTES) + 0x7C, most)


def write_across_2m(harness: Harness) -> str:
    """The device writes across a 2 MiB boundary of memory in base pages."""
    return _check_write(harness, harness.place(_2M, _2M, before=0x400), 0x800)


def write_huge_pages(harness: Harness) -> str:
    """The device writes across the boundary of two transparent 2 MiB pages."""
    iova = harness.place(2 * _2M, _2M)
    return _check_write(harness, iova + _2M - 0x400, 0x800, first=iova, size=2 * _2M, backing=Backing.THP)


def write_high(harness: Harness) -> str:
    """The device writes to the highest IOVA that it reaches and the IOMMU translates."""
    return _check_write(harness, harness.highest(PAGE_BYTES) + 0x800, 0x400)


def read_page(harness: Harness) -> str:
    """The device reads a whole page, 4 KiB."""
    return _check_read(harness, harness.place(PAGE_BYTES), PAGE_BYTES)


def read_across_pages(harness: Harness) -> str:
    """The device reads across a page boundary."""
    iova = harness.place(2 * PAGE_BYTES)
    if harness.engine.reads.alignment < PAGE_BYTES:
        return _check_read(harness, iova + PAGE_BYTES - 0x40, 0x80)
    return _check_read(harness, iova, 2 * PAGE_BYTES)


def read_high(harness: Harness) -> str:
    """The device reads from the highest IOVA that it reaches and the IOMMU translates."""
    return _check_read(harness, harness.highest(PAGE_BYTES), 0x400)


def read_only(harness: Harness) -> str:
    """A mapping without MapFlags.WRITEABLE stops the device's write and permits its read."""
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova, flags=MapFlags.READABLE) as window:
        refusal = harness.try_write(iova + 0x100, 0x200)
        window.expect()
        if harness.engine.reads.max_bytes:
            harness.read(window, iova, 0x400)
    return refusal or "memory unchanged, and readable"


def unmapped_write(harness: Harness) -> str:
    """The IOMMU stops a write to an IOVA without a mapping; the pages mapped before and after it stay unchanged."""
    iova = harness.place(3 * PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova) as below, harness.window(PAGE_BYTES, iova + 2 * PAGE_BYTES) as above:
        refusal = harness.try_write(iova + PAGE_BYTES + 0x100, 0x200)
        below.expect()
        above.expect()
    return refusal or "memory unchanged"


def unmapped_read(harness: Harness) -> str:
    """A read from an IOVA without a mapping returns no memory."""
    _needs_reads(harness)
    iova = harness.place(PAGE_BYTES)
    content = harness.engine.readable(harness.engine.reads.fit(0x200))
    if harness.engine.read(iova, content):
        raise MismatchError(f"the device read memory at IOVA {iova:#x}, where nothing is mapped")
    return "no memory read"


def after_unmap(harness: Harness) -> str:
    """The IOMMU stops a write right after the unmap, although the device has just used the IOVA."""
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova, mapped=False) as window:
        mapping = harness.space.map(window.buffer, iova)
        content = harness.write(iova + 0x40, 0x100)
        window.expect(iova + 0x40, content)
        window.refill()
        mapping.close()
        refusal = harness.try_write(iova + 0x40, 0x100)
        window.expect()
    return refusal or "memory unchanged"


def remapped(harness: Harness) -> str:
    """After an IOVA is mapped again, DMA reaches only the new memory, although the device has just used the old one."""
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova, mapped=False) as old, harness.window(PAGE_BYTES, iova, mapped=False) as new:
        with harness.space.map(old.buffer, iova):
            content = harness.write(iova, 0x100)
        old.expect(iova, content)
        with harness.space.map(new.buffer, iova):
            again = harness.write(iova + 0x800, 0x100)
            new.expect(iova + 0x800, again)
        old.expect(iova, content)
    return "only the new memory written"


def ioas_copy(harness: Harness) -> str:
    """IOAS_COPY during DMA: both IOVAs reach the same memory, and each mapping survives the unmap of the other."""
    ioas = _ioas(harness)
    iova = harness.place(2 * PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova) as window:
        original = window.mapping
        assert isinstance(original, DmaMapping)
        content = harness.engine.start_write(iova + 0x200, 0x100)
        copy = ioas.copy(original, iova + PAGE_BYTES)
        harness.engine.wait()
        window.expect(iova + 0x200, content)
        window.refill()
        content = harness.engine.start_write(iova + PAGE_BYTES + 0x600, 0x100)
        original.close()
        harness.engine.wait()
        window.expect(iova + 0x600, content)
        copy.close()
    return "both IOVAs reach it"


def map_file(harness: Harness) -> str:
    """MAP_FILE: the file holds the data that the device writes to a mapped memfd."""
    ioas = _ioas(harness)
    if not ioas.iommufd.probe()["IOMMU_IOAS_MAP_FILE"]:
        raise SkipError("this kernel has no IOMMU_IOAS_MAP_FILE (since Linux 6.13)")
    iova = harness.place(4 * PAGE_BYTES)
    with harness.window(4 * PAGE_BYTES, iova, backing=Backing.MEMFD, mapped=False) as window:
        ioas.map_file(window.buffer, iova)
        content = harness.write(iova + PAGE_BYTES - 0x80, 0x100)
        window.expect(iova + PAGE_BYTES - 0x80, content)
    return "in the file"


def replace(harness: Harness) -> str:
    """Another HWPT with the same mappings replaces the HWPT while the device writes: no write is lost silently.

    Linux 7.3 on VT-d clears the device's context entry before it sets the new one (device_block_translation() in
    drivers/iommu/intel/iommu.c). The IOMMU stops a write between the two. An error of the device, or a fault, must
    report it.
    """
    ioas, device = _ioas(harness), _bound(harness)
    length = harness.engine.writes.fit(8 * PAGE_BYTES)
    iova = harness.place(length + PAGE_BYTES)
    target = device.attachments[None].target
    stopped = 0
    with harness.window(round_up(length, PAGE_BYTES), iova) as window:
        hwpts = [device.alloc_hwpt(ioas) for _ in range(2)]
        try:
            for turn in range(_ROUNDS):
                window.refill()
                harness.await_fault_room()  # A fault that the kernel does not log would look like a silent loss.
                content = harness.engine.start_write(iova, length)
                device.attach(hwpts[turn % 2])
                stopped += not _arrives(harness, window, iova, content)
        finally:
            device.attach(target)
            for hwpt in hwpts:
                hwpt.close()
    return f"{_ROUNDS} times" + (f", {stopped} writes stopped and reported" if stopped else "")


def _arrives(harness: Harness, window: Window, iova: int, content: bytes) -> bool:
    """Wait for the started write and return whether it reached memory.

    Raises:
        MismatchError: it did not reach memory, and neither the device nor a fault reported the loss.
        SkipError: it did not reach memory, and this process cannot read the faults.
    """
    try:
        harness.engine.wait()
        window.expect(iova, content)
    except DmaError:
        harness.engine.restart()
    except MismatchError as loss:
        if not harness.sees_faults:
            unknown = "whether the IOMMU stopped the write is not known, because the kernel log cannot be read"
            raise SkipError(f"{loss}; {unknown}") from loss
        if not harness.faults(expected=True):
            raise
    else:
        return True
    window.expect_at_most(iova, content)
    return False


def detach(harness: Harness) -> str:
    """After a detach the IOMMU stops the device's writes; after the next attach they reach memory."""
    device = _bound(harness)
    target = device.attachments[None].target
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova) as window:
        device.detach()
        try:
            harness.engine.start_write(iova, 0x100)
            harness.engine.wait()
            refusal = ""
        except DmaError as failure:
            refusal = str(failure)
        finally:
            device.attach(target)
            harness.engine.restart()
        window.expect()
        window.expect(iova, harness.write(iova, 0x100))
    return refusal or "memory unchanged"


ANY_SPACE: tuple[Case, ...] = (
    write_page,
    write_sub_page,
    write_across_pages,
    write_across_2m,
    write_huge_pages,
    write_high,
    read_page,
    read_across_pages,
    read_high,
    read_only,
    unmapped_write,
    unmapped_read,
    after_unmap,
    remapped,
)
"""Cases for an Ioas or a container of any mode."""

IOAS_ONLY: tuple[Case, ...] = (ioas_copy, map_file, replace, detach)
"""Cases for iommufd only. The space is an Ioas, and the device is attached to it or to a HWPT on it."""


STOPPING: tuple[Case, ...] = (read_only, unmapped_write, unmapped_read, after_unmap, detach)
"""Cases in which the IOMMU must stop the device."""


def run_case(case: Case, harness: Harness, *, stops: bool = False) -> CaseResult:
    """Run one case, and judge the memory and the IOMMU's faults; *stops* has the meaning of :data:`STOPPING`."""
    stops = stops or case in STOPPING
    name = case.__name__.replace("_", " ")
    if stops:
        harness.await_fault_room()
    harness.begin_case()
    try:
        remark, verdict = case(harness), CaseOutcome.PASS
    except (SkipError, BackingError) as reason:
        remark, verdict = str(reason), CaseOutcome.SKIP
    except (MismatchError, DmaError) as failure:
        remark, verdict = str(failure), CaseOutcome.FAIL
        harness.engine.restart()
    harness.faults(expected=stops)
    faults = harness.case_faults
    if faults and verdict is CaseOutcome.PASS and not stops and case is not replace:
        remark, verdict = f"{remark}, but the IOMMU stopped DMA to a mapped IOVA", CaseOutcome.FAIL
    return CaseResult(name, verdict, remark, faults)


def _check_write(
    harness: Harness,
    iova: int,
    length: int,
    *,
    first: int | None = None,
    size: int | None = None,
    backing: Backing = Backing.ANON_4K,
) -> str:
    """Let the device write, and check every byte of the pages that it writes to."""
    if first is None or size is None:
        first, size = _pages_of(iova, length)
    with harness.window(size, first, backing=backing) as window:
        window.expect(iova, harness.write(iova, length))
    return f"{length} bytes at {iova:#x}"


def _check_read(harness: Harness, iova: int, length: int) -> str:
    _needs_reads(harness)
    first, size = _pages_of(iova, length)
    with harness.window(size, first) as window:
        harness.read(window, iova, length)
    return f"{length} bytes at {iova:#x}"


def _pages_of(iova: int, length: int) -> tuple[int, int]:
    """Return the start and the size of the whole pages that hold *length* bytes at *iova*."""
    first = iova // PAGE_BYTES * PAGE_BYTES
    return first, round_up(iova + length, PAGE_BYTES) - first


def _needs_reads(harness: Harness) -> None:
    if not harness.engine.reads.max_bytes:
        raise SkipError(f"{harness.bdf} has no namespace: its engine checks reads by Read commands, which need one")


def _ioas(harness: Harness) -> Ioas:
    assert isinstance(harness.space, Ioas)
    return harness.space


def _bound(harness: Harness) -> BoundDevice:
    assert isinstance(harness.engine.device, BoundDevice)
    return harness.engine.device
