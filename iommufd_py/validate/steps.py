# SPDX-License-Identifier: MIT
"""The steps of a scenario, the pages that each must flush, and the violations found. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from iommufd_py.base.coherency import Coherency


class Page(NamedTuple):
    """A page of a buffer of the scenario.

    A tuple, because the judge compares and hashes pages more often than anything else.
    """

    buffer: str
    number: int

    def __str__(self) -> str:
        return f"page {self.number} of {self.buffer}"


@dataclass(frozen=True, slots=True)
class ScenarioStep:
    """One step of a scenario, and the pages that must be flushed in it. A page listed twice must be flushed twice.

    Attributes:
        name: description of the operation.
        rule: 1 or 2, the rule for pages that enter domains in this step.
        enter: pages to be flushed before they are mapped.
        leave: pages to be flushed before they are unpinned.
        may: pages that the kernel may flush, but need not.
        transient: pages that may or may not be mapped (a failing map). The kernel must flush each page before it maps
            the page, and again before it unpins the page.
        others: pages that another user of the memory unpins, which needs no flush.
        makes: coherency of the domains that are made in this step.
        frames: page of the scenario for each frame number, during the step.
        final: whether the step closes everything, so that no page is pinned or mapped after it.
    """

    name: str
    rule: int = 1
    enter: tuple[Page, ...] = ()
    leave: tuple[Page, ...] = ()
    may: tuple[Page, ...] = ()
    transient: tuple[Page, ...] = ()
    others: tuple[Page, ...] = ()
    makes: Coherency | None = None
    frames: Mapping[int, Page] = field(default_factory=dict)
    final: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule is broken.

    Attributes:
        rule: 1, 2 or 3; 0 for a wrong answer of the kernel about coherency, which the rules depend on.
        step: name of the step.
        what: description of the violation, without the page.
        page: the first page with the violation; None for a violation without a page.
        frame: its frame number.
        history: the history of the page from its first event, one line a step.
        others: number of further pages of the step with the same violation.
    """

    rule: int
    step: str
    what: str
    page: Page | None = None
    frame: int | None = None
    history: tuple[str, ...] = ()
    others: int = 0

    def __str__(self) -> str:
        where = f"{self.page} " if self.page else ""
        where += f"(pfn {self.frame:#x}) " if self.frame is not None else ""
        where += f"and {self.others} more " if self.others else ""
        return f"{'rule ' + str(self.rule) if self.rule else 'VFIO_DMA_CC_IOMMU'}, {self.step}: {where}{self.what}"
