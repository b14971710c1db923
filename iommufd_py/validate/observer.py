# SPDX-License-Identifier: MIT
"""Observe the flushes of the running kernel, and judge a recorded scenario."""

import threading
from collections.abc import Sequence

from iommufd_py.base.device_node import NoNodeError
from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.mock import flush_count, limit_memory
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import HwptAllocFlags
from iommufd_py.validate.addresses import PageStructs, direct_map_base
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.counts import judge_counts
from iommufd_py.validate.driver import Driver
from iommufd_py.validate.events import Event, Flush, MapFailed, StepBegin, StepEnd
from iommufd_py.validate.judge import judge_scenario
from iommufd_py.validate.probes import FLUSH_SYMBOLS, Probes
from iommufd_py.validate.recorder import Recorded
from iommufd_py.validate.records import Layout, Observed, page_addresses, read_records
from iommufd_py.validate.steps import Violation
from iommufd_py.validate.unknown_flush import suspects_here

# Enough pages that an unrelated unpinned address fits all of them only with negligible probability.
_KNOWN_PAGES = 4


class CountersDisagreeError(ToolError):
    """The trace and the kernel's own counters contradict each other."""


class Observer(Resource):
    """Observes the kernel by probes, or only by the kernel's own counters if it has no probes.

    Args:
        driver: supplies the device used for calibration.
        flush_symbol: a function that flushes (phys, length), if the kernel uses none of the known ones.
        refined: apply the refined rules; see :func:`~iommufd_py.validate.judge.judge_scenario`.

    Attributes:
        probes: the probes; None if only counters can be read.
        flush_symbols: flush functions of this kernel.
        not_observed: the events that cannot be observed here, with the reason; empty if all can.
        inside_seen: whether the loop inside the flush function was recorded in a scenario.
        sees_sync: whether IOTLB invalidations by the device's IOMMU driver are recorded.

    Raises:
        SkipError: nothing can be observed.
        ToolError: there is no function *flush_symbol*.
    """

    def __init__(self, driver: Driver, flush_symbol: str | None = None, *, refined: bool = False) -> None:
        super().__init__()
        self.probes: Probes | None = None
        self.flush_symbols: tuple[str, ...] = ()
        self.not_observed = ""
        self.inside_seen = False
        self.sees_sync = False
        self._refined = refined
        self._unnamed: set[str] = set()
        try:
            opened = Iommufd()
        except NoNodeError as failure:
            raise SkipError(str(failure)) from None
        with opened as iommufd:
            counts = flush_count(iommufd) is not None
            if iommufd.probe()["IOMMU_TEST_CMD"]:
                # A killed run may have left a scenario's memory limit, which applies to all processes.
                limit_memory(iommufd, None)
        self._mark_open()
        try:
            self._start(driver, (flush_symbol,) if flush_symbol else FLUSH_SYMBOLS)
            if flush_symbol and not self.flush_symbols:
                raise ToolError(f"this kernel has no function {flush_symbol} that can be probed")
            if counts and not self.flush_symbols:
                raise SkipError(
                    f"the kernel flushes, but by none of {', '.join(FLUSH_SYMBOLS)}: name its function with "
                    "--flush-symbol"
                )
        except SkipError as failure:
            self._stop()
            if not counts:
                self.close()
                raise
            self.not_observed = f"the order and the pages of the flushes: {failure}"
        except BaseException:
            self.close()
            raise

    def _start(self, driver: Driver, flush_symbols: Sequence[str]) -> None:
        self.probes = Probes(flush_symbols)
        self.flush_symbols = self.probes.flush_symbols
        self._layout, unnamed = _calibrate(driver, self.probes)
        self.sees_sync = self._layout.sees_sync
        if self._layout.direct_map is None:
            self.probes.drop_loops()
        if not self.flush_symbols:
            self._unnamed = unnamed | set(suspects_here())

    def _stop(self) -> None:
        if self.probes is not None:
            self.probes.trace.close()
            self.probes = None

    def _release(self) -> None:
        self._stop()

    def begin(self) -> None:
        """Discard all records so far."""
        if self.probes is not None:
            self.probes.trace.clear()

    def judge(self, recorded: Recorded) -> list[Violation]:
        """Judge a recorded scenario.

        Raises:
            SkipError: the intended effect did not happen, or cannot be observed.
            CountersDisagreeError: the trace and the kernel's own counters contradict each other.
            ToolError: the records permit no verdict.
        """
        counted = [None if count is None else count.pages for count in recorded.counted]
        if self.probes is None:
            if None in counted:
                raise SkipError("the kernel does not count flushes of VFIO's own containers, and there are no probes")
            return judge_counts(recorded.steps, [count or 0 for count in counted], refined=self._refined)
        frames = {frame for step in recorded.steps for frame in step.frames}
        observed = read_records(self.probes.trace.read(), self._layout, recorded.threads, frames)
        self.inside_seen |= observed.inside_seen
        self._unnamed |= observed.unnamed
        failed_in = {event.domain for event in observed.events if isinstance(event, MapFailed)}
        if len(failed_in) < recorded.failing_domains:
            raise SkipError(
                f"a map must fail in each of {recorded.failing_domains} domains but failed in {len(failed_in)}: the "
                "faults do not reach the page tables"
            )
        traced = _flushed(observed.calls, len(counted))
        self._check_that_flushes_are_seen(recorded, counted, traced)
        violations = judge_scenario(recorded.steps, observed.events, refined=self._refined)
        if violations and not self.flush_symbols and self._unnamed:
            raise SkipError(
                f"the kernel flushes by unknown functions, {', '.join(sorted(self._unnamed))}: name a "
                "function that flushes (phys, length) with --flush-symbol"
            )
        if not violations:
            _check_counts(recorded, counted, traced, observed)
        return violations

    def _check_that_flushes_are_seen(
        self, recorded: Recorded, counted: Sequence[int | None], traced: Sequence[tuple[int, int]]
    ) -> None:
        """Refuse a verdict if the kernel counts flushes but the trace shows none: it flushes by an unknown function."""
        for step, count, (_, most) in zip(recorded.steps, counted, traced, strict=True):
            if count and not most:
                raise CountersDisagreeError(
                    f"the kernel counted {count} flushed pages in the step '{step.name}', the trace shows none: name "
                    "its flush function with --flush-symbol"
                )


def _check_counts(
    recorded: Recorded, counted: Sequence[int | None], traced: Sequence[tuple[int, int]], observed: Observed
) -> None:
    """Refuse a verdict if the kernel's count of flushed pages is outside the bounds that the trace gives."""
    for step, count, (least, most) in zip(recorded.steps, counted, traced, strict=True):
        if count is not None and not least <= count <= most:
            seen = "shows" if observed.calls else "shows without a flush function"
            raise CountersDisagreeError(
                f"the kernel counted {count} flushed pages in the step '{step.name}', the trace {seen} {most}: the "
                "counter is wrong, or another process used iommufd at the same time"
            )


def _flushed(calls: Sequence[Event], steps: int) -> list[tuple[int, int]]:
    """Return bounds for the flushed pages of each step: the bytes in pages, and the number of touched pages."""
    lengths, touched, current = [0] * steps, [0] * steps, None
    for event in calls:
        match event:
            case StepBegin(index):
                current = index
            case StepEnd():
                current = None
            case Flush(phys, length) if current is not None and length:
                lengths[current] += length
                touched[current] += (phys + length - 1) // PAGE_BYTES - phys // PAGE_BYTES + 1
    return [(-(-length // PAGE_BYTES), pages) for length, pages in zip(lengths, touched, strict=True)]


def _calibrate(driver: Driver, probes: Probes) -> tuple[Layout, set[str]]:
    """Map and unmap known pages, and derive the layout and the unknown functions that flush."""
    thread = threading.get_native_id()
    probes.follow({thread})
    unpinned: list[tuple[set[int], int]] = []
    flushed: list[tuple[frozenset[int], int]] = []
    frames: set[int] = set()
    sees_sync = False
    records = []
    with ScenarioContext(driver, probes) as context:
        ioas = context.ioas()
        Hwpt(ioas, context.any_device().dev_id, HwptAllocFlags(0))
        for _ in range(_KNOWN_PAGES):
            buffer = context.buffer(1)
            probes.trace.clear()
            mapping = ioas.map(buffer.memory)
            (frame,) = buffer.memory.frames()
            mapping.close()
            seen = probes.trace.read()
            records += seen
            frames.add(frame)
            unpinned.append(({one for row in seen if _is(row.name, "unpin") for one in page_addresses(row)}, frame))
            virtual = [row.fields()["virt"] for row in seen if _is(row.name, "lines")]
            flushed.append((frozenset(one for one in virtual if isinstance(one, int)), frame))
            sees_sync |= any(_is(row.name, "sync") and row.tid == thread for row in seen)
    layout = Layout(PageStructs.find(unpinned), direct_map_base(flushed), sees_sync)
    return layout, read_records(records, layout, {thread}, frames).unnamed


def _is(name: str, kind: str) -> bool:
    return name.partition("__")[0] == kind
