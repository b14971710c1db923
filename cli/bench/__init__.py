# SPDX-License-Identifier: MIT
"""`iommufd bench`: time DMA map and unmap, read and compare the results."""

from typing import ClassVar

import click

from ..commands import Group
from ..lazy import LazyGroup

# Imported when used: commands that only read results then need no compiled extension and no Linux kernel.
_COMMANDS = {
    "run": "Time IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP, or other operations.",
    "show": "Show a result: the machine, the times, the limits of the figures.",
    "compare": "Compare results with the first one: ratio, interval, verdict.",
    "plot": "Draw results.",
    "export": "Print a result in pyperf's file format.",
    "history": "Find the result at which an operation became slower or faster.",
    "trace": "Divide the kernel's time between pinning, page tables, flushes.",
    "patch": "Compare the kernels of the lab, for a cover letter.",
    "calibrate": "Compare a kernel with itself: the error of this machine.",
}


class _Commands(LazyGroup, Group):
    package = __package__
    table = _COMMANDS
    modules: ClassVar = dict.fromkeys(("show", "compare", "export"), "results")


@click.group(cls=_Commands)
def bench() -> None:
    """Time DMA map and unmap, and everything else that fills or empties a domain.

    Options that take a list (4K,2M) are axes: every combination of their values is a row.
    """
