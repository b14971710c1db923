# SPDX-License-Identifier: MIT
"""Cases that show, byte by byte, whether a kernel flushes the CPU caches for DMA that does not snoop.

A case uses a device only in ways that a program may use it. It does not do the flushes that are the kernel's duty. It
records the bytes that the device and the CPU read. The docstring of a case is the condition that must hold.
"""

from collections.abc import Callable
from dataclasses import dataclass

from iommufd_py.base.errors import BackingError, SkipError
from iommufd_py.dma.coherency import domains, joins, pages, races
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import CoherencyResult, CoherencyVerdict


@dataclass(frozen=True, slots=True)
class CoherencyCase:
    """One case.

    Attributes:
        rule: number of the rule in :data:`~iommufd_py.base.coherency.FLUSH_RULES` that the case mainly checks.
        run: the function of the case.
    """

    rule: int
    run: Callable[[CoherencyHarness], None]

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.run.__name__.replace("_", " ")

    @property
    def purpose(self) -> str:
        """The condition that must hold."""
        return (self.run.__doc__ or "").strip()


ANY_SPACE = (
    CoherencyCase(1, pages.fill_before_map),
    CoherencyCase(1, pages.fresh_page),
    CoherencyCase(3, pages.after_unmap),
    CoherencyCase(3, pages.next_owner),
    CoherencyCase(1, pages.read_only_map),
    CoherencyCase(1, pages.scattered_pages),
    CoherencyCase(1, pages.many_scattered_pages),
    CoherencyCase(1, pages.contiguous_pages),
    CoherencyCase(1, pages.huge_folio),
    CoherencyCase(1, races.read_during_map),
    CoherencyCase(3, races.write_during_unmap),
)
"""Cases for an Ioas or a container of any mode."""

IOAS_ONLY = (
    CoherencyCase(2, domains.attach_to_populated),
    CoherencyCase(3, domains.unmap_after_an_attach),
    CoherencyCase(1, domains.half_mapped_later),
    CoherencyCase(2, domains.half_attached_later),
    CoherencyCase(3, domains.one_of_two_hwpts),
    CoherencyCase(1, domains.map_after_a_hwpt_went),
    CoherencyCase(3, domains.replaced_hwpt),
    CoherencyCase(1, pages.mapped_file),
    CoherencyCase(2, races.read_during_attach),
)
"""Cases that need a device bound to an iommufd."""

TYPE1_ONLY = (
    CoherencyCase(2, joins.joined_later),
    CoherencyCase(2, joins.joined_again),
    CoherencyCase(3, joins.left_with_mappings),
)
"""Cases that need a type1 container, and an emulated device of the kernel in addition to the device."""

COHERENCY_CASES = (*ANY_SPACE, *IOAS_ONLY, *TYPE1_ONLY)
"""All cases. Those that need another address space are skipped."""


def run_coherency_case(case: CoherencyCase, harness: CoherencyHarness) -> CoherencyResult:
    """Run one case and judge its readings.

    A case that ends early with a wrong reading is wrong, and one without a wrong reading is not right.
    """
    harness.readings.clear()
    remark = ""
    try:
        case.run(harness)
    except (SkipError, BackingError) as reason:
        remark = str(reason)
    readings = tuple(harness.readings)
    if not all(reading.right for reading in readings):
        return CoherencyResult(case.name, case.rule, CoherencyVerdict.WRONG, readings)
    if remark or not readings:
        return CoherencyResult(case.name, case.rule, CoherencyVerdict.SKIP, (), remark or "nothing was read")
    return CoherencyResult(case.name, case.rule, CoherencyVerdict.RIGHT, readings)
