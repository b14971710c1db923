# SPDX-License-Identifier: MIT
"""Playing scenarios and judging them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from iommufd_py.enums import HwptAllocFlags
from iommufd_py.errors import IommufdError, SkipError, ToolError
from iommufd_py.hwpt import Coherency, Hwpt
from iommufd_py.validate.events import PageStructs, parse_events
from iommufd_py.validate.probes import Probes
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.stage import Driver, Recorded, Stage
from iommufd_py.validate.story import Violation, judge, judge_counts

__all__ = ["Observer", "Outcome", "Verdict", "play"]


class Outcome(StrEnum):
    """How a scenario ended."""

    KEPT = "kept"
    VIOLATED = "violated"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one scenario showed.

    Attributes:
        violations: empty unless violated.
        reason: why it was skipped, or what went wrong.
        seconds: how long it took.
    """

    scenario: Scenario
    outcome: Outcome
    violations: tuple[Violation, ...] = ()
    reason: str = ""
    seconds: float = 0.0


class Observer:
    """How the kernel is watched: by probes where it has them, by its own counters otherwise.

    Attributes:
        probes: None where only counters can be read.
        flush_symbols: functions that flush which the kernel has.
    """

    def __init__(self, probes: Probes | None, structs: PageStructs | None) -> None:
        self.probes = probes
        self._structs = structs

    def judge(self, recorded: Recorded) -> list[Violation]:
        """Judge what was recorded, and hold the trace against the kernel's own counters where it has some."""
        if self.probes is None or self._structs is None:
            counts = [count.pages for count in recorded.counted if count is not None]
            return judge_counts(recorded.steps, counts)
        records = self.probes.trace.read()
        events = list(parse_events(records, self._structs, recorded.threads))
        return judge(recorded.steps, events)


def play(scenario: Scenario, driver: Driver, observer: Observer) -> Verdict:
    """Play one scenario and judge it."""
    start = time.monotonic()

    def verdict(outcome: Outcome, violations: Sequence[Violation] = (), reason: str = "") -> Verdict:
        return Verdict(scenario, outcome, tuple(violations), reason, time.monotonic() - start)

    try:
        if observer.probes is not None:
            observer.probes.trace.clear()
        with Stage(driver, observer.probes) as stage:
            scenario.play(stage)
            recorded = stage.recorded()
        violations = [*recorded.violations, *observer.judge(recorded)]
    except SkipError as failure:
        return verdict(Outcome.SKIPPED, reason=str(failure))
    except (ToolError, IommufdError) as failure:
        return verdict(Outcome.ERROR, reason=str(failure))
    return verdict(Outcome.VIOLATED if violations else Outcome.KEPT, violations)


def learn_page_structs(driver: Driver, probes: Probes) -> PageStructs:
    """Find where the struct pages lie, from the unpins of two known pages."""
    known = []
    with Stage(driver, probes) as stage:
        ioas = stage.ioas()
        for coherency in (Coherency.NON_COHERENT, Coherency.COHERENT):
            try:
                device = stage.device(coherency)
                break
            except SkipError as failure:
                reason = failure
        else:
            raise reason
        Hwpt(ioas, device.dev_id, HwptAllocFlags(0))
        for _ in range(2):
            buffer = stage.buffer(1)
            mapping = ioas.map(buffer.memory)
            frames = buffer.frames()
            probes.trace.clear()
            mapping.close()
            addresses = [
                int(record.fields()["page"]) for record in probes.trace.read() if record.name.startswith("unpin__")
            ]
            known += [(address, frame) for address, frame in zip(addresses, frames, strict=False)]
    return PageStructs.solve(known)
