# SPDX-License-Identifier: MIT
"""How this kernel can be watched, and what its record says of a scenario."""

from collections.abc import Sequence

from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.mock import flush_count
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.iommufd import DEV_IOMMU, Iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import HwptAllocFlags
from iommufd_py.validate.context import Recorded, ScenarioContext
from iommufd_py.validate.driver import Driver
from iommufd_py.validate.events import Event, Flush, MapFailed, PageStructs, StepBegin, StepEnd, parse_events
from iommufd_py.validate.judge import Violation, judge, judge_counts
from iommufd_py.validate.probes import FLUSH_SYMBOLS, Probes


class Observer(Resource):
    """Watches the kernel by probes, or by the kernel's own counters alone where it has no probes.

    Args:
        driver: makes the device with whose help it is found out how to watch.
        flush_symbol: the function that flushes (phys, length), if it is none of those known.

    Attributes:
        probes: None where only counters can be read.
        flush_symbols: the functions that flush which this kernel has.
        not_observed: what cannot be seen here, and why; empty if everything can.

    Raises:
        SkipError: nothing can be observed.
        ToolError: there is no function *flush_symbol*.
    """

    def __init__(self, driver: Driver, flush_symbol: str | None = None) -> None:
        super().__init__()
        self.probes: Probes | None = None
        self.flush_symbols: tuple[str, ...] = ()
        self.not_observed = ""
        if not DEV_IOMMU.exists():
            raise SkipError(f"there is no {DEV_IOMMU}: this kernel has no iommufd, or its module is not loaded")
        with Iommufd() as iommufd:
            counts = flush_count(iommufd) is not None
        self._opened()
        try:
            self._start(driver, (flush_symbol,) if flush_symbol else FLUSH_SYMBOLS)
            if flush_symbol and not self.flush_symbols:
                raise ToolError(f"this kernel has no function {flush_symbol} that can be probed")
            if counts and not self.flush_symbols:
                raise SkipError(
                    f"the kernel flushes, but by none of {', '.join(FLUSH_SYMBOLS)}: name it by --flush-symbol"
                )
        except SkipError as failure:
            self._stop()
            if not counts:
                self.close()
                raise
            self.not_observed = f"order, and page by page: {failure}"
        except BaseException:
            self.close()
            raise

    def _start(self, driver: Driver, flush_symbols: Sequence[str]) -> None:
        self.probes = Probes(flush_symbols)
        self.flush_symbols = self.probes.flush_symbols
        self._structs = _learn_page_structs(driver, self.probes)

    def _stop(self) -> None:
        if self.probes is not None:
            self.probes.trace.close()
            self.probes = None

    def _release(self) -> None:
        self._stop()

    def begin(self) -> None:
        """Forget what was recorded so far."""
        if self.probes is not None:
            self.probes.trace.clear()

    def judge(self, recorded: Recorded) -> list[Violation]:
        """Judge what was recorded.

        Raises:
            SkipError: what the scenario is about did not happen, or cannot be seen.
            ToolError: the trace and the kernel's own counters contradict each other.
        """
        counted = [None if count is None else count.pages for count in recorded.counted]
        if self.probes is None:
            if None in counted:
                raise SkipError("the kernel does not count what VFIO's own containers flush, and there are no probes")
            return judge_counts(recorded.steps, [count or 0 for count in counted])
        events = list(parse_events(self.probes.trace.read(), self._structs, recorded.threads))
        failed_in = {event.domain for event in events if isinstance(event, MapFailed)}
        if len(failed_in) < recorded.failing_domains:
            raise SkipError(
                f"a map was to fail in each of {recorded.failing_domains} domains and did in {len(failed_in)}: the "
                "faults do not reach the page tables"
            )
        traced = _flushed(events, len(counted))
        # Before anything is called a violation: flushes that the trace does not show at all go another way.
        for step, count, (_, most) in zip(recorded.steps, counted, traced, strict=True):
            if count and not most:
                raise ToolError(
                    f"the kernel counted {count} flushed pages in the step '{step.name}', the trace shows none: name "
                    "the function by which it flushes with --flush-symbol"
                )
        violations = judge(recorded.steps, events)
        if not violations:
            for step, count, (least, most) in zip(recorded.steps, counted, traced, strict=True):
                if count is not None and not least <= count <= most:
                    raise ToolError(
                        f"the kernel counted {count} flushed pages in the step '{step.name}', the trace shows {most}: "
                        "one of the two is wrong"
                    )
        return violations


def _flushed(events: Sequence[Event], steps: int) -> list[tuple[int, int]]:
    """Return how many pages were flushed in each step: by their bytes at least, as pages that were touched at most."""
    lengths, touched, current = [0] * steps, [0] * steps, None
    for event in events:
        match event:
            case StepBegin(index):
                current = index
            case StepEnd():
                current = None
            case Flush(phys, length) if current is not None and length:
                lengths[current] += length
                touched[current] += (phys + length - 1) // PAGE_BYTES - phys // PAGE_BYTES + 1
    return [(-(-length // PAGE_BYTES), pages) for length, pages in zip(lengths, touched, strict=True)]


def _learn_page_structs(driver: Driver, probes: Probes) -> PageStructs:
    """Find where the struct pages lie, from the unpins of two known pages."""
    known: list[tuple[int, int]] = []
    with ScenarioContext(driver, probes) as context:
        ioas = context.ioas()
        Hwpt(ioas, context.any_device().dev_id, HwptAllocFlags(0))
        for _ in range(2):
            buffer = context.buffer(1)
            mapping = ioas.map(buffer.memory)
            frames = buffer.memory.frames()
            probes.trace.clear()
            mapping.close()
            unpins = [record for record in probes.trace.read() if record.name.startswith("unpin__")]
            known += [(int(record.fields()["page"]), frames[0]) for record in unpins]
    return PageStructs.solve(known)
