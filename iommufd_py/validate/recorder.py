# SPDX-License-Identifier: MIT
"""The recorder of a scenario: its steps, the flushes that each step must show, and the flushes the kernel counts."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from iommufd_py.base.coherency import Coherency, FlushCount
from iommufd_py.base.errors import InvalidFieldError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.mock import flush_count
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.validate.events import begin_mark, end_mark
from iommufd_py.validate.probes import Probes
from iommufd_py.validate.steps import Page, ScenarioStep, Violation

Pages = tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a scenario; its pages have names.

    Attributes:
        named: indexes of the pages that have names. The scenario maps no other pages.
    """

    name: str
    memory: DmaBuffer
    named: range

    def pages(self, first: int = 0, count: int | None = None) -> Pages:
        """Return the names of *count* pages from page *first* of the memory, by default of all pages with names."""
        every = _pages(self.name, self.named)
        start = max(first - self.named.start, 0)
        return every[start:] if count is None else every[start : start + count]

    def frames(self) -> dict[int, Page]:
        """Return the page of each frame number at this moment."""
        if self.memory.closed:
            return {}
        numbers = self.memory.frames(self.named.start * PAGE_BYTES, len(self.named) * PAGE_BYTES)
        return {number: page for number, page in zip(numbers, self.pages(), strict=True) if number}


@lru_cache
def _pages(name: str, indexes: range) -> Pages:
    # Each step needs them twice.
    return tuple(Page(name, index) for index in indexes)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of a scenario.

    Attributes:
        counted: the kernel's own count of each step; None where it does not count.
        violations: wrong answers of the kernel about coherency, which are checked in each step.
        failing_domains: number of domains in which a map must have failed; with fewer, the scenario proves nothing.
    """

    steps: tuple[ScenarioStep, ...]
    counted: tuple[FlushCount | None, ...]
    threads: frozenset[int]
    violations: tuple[Violation, ...]
    failing_domains: int


class Recorder:
    """Records the steps of one scenario on one iommufd.

    Attributes:
        iommufd: the iommufd that the scenario works on.
        counter: another iommufd, which only reads the kernel's counters.
        counted: whether the kernel's own counters, where it has some, count the flushes of the steps.
        failing_domains: number of domains in which a map must fail during the scenario.
    """

    def __init__(self, probes: Probes | None) -> None:
        self.counted = True
        self.failing_domains = 0
        self._probes = probes
        self._open = ExitStack()
        self._domains: list[tuple[Ioas, Resource, Coherency]] = []
        self._buffers: list[Buffer] = []
        self._steps: list[ScenarioStep] = []
        self._counted: list[FlushCount | None] = []
        self._threads = {threading.get_native_id()}
        self._violations: list[Violation] = []

    def __enter__(self) -> Self:
        self.counter = self._open.enter_context(Iommufd())
        self.iommufd = self._open.enter_context(Iommufd())
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def recorded(self) -> Recorded:
        """Close everything, in a last step in which nothing may be flushed, and return the record."""
        with self.step("close all that is left", rule=3, final=True):
            self.iommufd.close()
        return Recorded(
            tuple(self._steps),
            tuple(self._counted),
            frozenset(self._threads),
            tuple(self._violations),
            self.failing_domains,
        )

    def joined(self, ioas: Ioas, domain: Resource, coherency: Coherency) -> None:
        """Note that an IOAS has a domain while *domain*, a HWPT or an attachment, is open."""
        self._domains.append((ioas, domain, coherency))

    @contextmanager
    def step(
        self,
        name: str,
        *,
        rule: int = 1,
        enter: Pages = (),
        leave: Pages = (),
        may: Pages = (),
        transient: Pages = (),
        others: Pages = (),
        makes: Coherency | None = None,
        final: bool = False,
    ) -> Iterator[None]:
        """Record the calls of the block as a step; see :class:`~iommufd_py.validate.steps.ScenarioStep`."""
        frames = self._frames()
        before = flush_count(self.counter)
        index = len(self._steps)
        self._mark(begin_mark(index))
        try:
            yield
        finally:
            self._mark(end_mark(index))
            after = flush_count(self.counter)
            self._counted.append(after - before if self.counted and before is not None and after is not None else None)
            # Pinning may move a page, so the frame numbers are read afterwards.
            frames |= self._frames()
            self._steps.append(ScenarioStep(name, rule, enter, leave, may, transient, others, makes, frames, final))
        self._check_answers(name)

    def in_threads(self, count: int, task: Callable[[int], None]) -> None:
        """Run *task* in *count* threads at once, each with its number, and wait for all."""

        def run(number: int) -> None:
            self._threads.add(threading.get_native_id())
            together.wait()
            task(number)

        together = threading.Barrier(count)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(run, range(count)))

    @contextmanager
    def refused(self, name: str, what: str) -> Iterator[None]:
        """Expect EINVAL from the call in the block. Success is a violation *what* of rule 2 in step *name*."""
        try:
            yield
        except InvalidFieldError:
            return
        self._violations.append(Violation(2, name, what))

    def _mark(self, text: str) -> None:
        if self._probes is not None:
            self._probes.trace.mark(text)

    def _frames(self) -> dict[int, Page]:
        if self._probes is None:
            return {}
        return {frame: page for buffer in self._buffers for frame, page in buffer.frames().items()}

    def _check_answers(self, name: str) -> None:
        """Compare the answer to VFIO_DMA_CC_IOMMU with the domains of each IOAS."""
        for ioas in {id(one): one for one, _, _ in self._domains if not one.closed}.values():
            kinds = {kind for one, domain, kind in self._domains if one is ioas and not domain.closed}
            expected = Coherency.NON_COHERENT not in kinds
            if ioas.dma_cc() != expected:
                what = f"the kernel answers {int(not expected)} for an IOAS whose domains are {_listed(kinds)}"
                self._violations.append(Violation(0, name, what))


def _listed(kinds: set[Coherency]) -> str:
    return " and ".join(sorted(kinds)) or "all gone"
