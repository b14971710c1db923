# SPDX-License-Identifier: MIT
"""Find signs that a kernel flushes DMA pages by a function that the probes do not know."""

import re
from collections.abc import Iterable
from pathlib import Path

KALLSYMS = Path("/proc/kallsyms")

# No function of the released kernels 6.12 to 7.3 has such a name.
_SUSPECT = re.compile(
    r"(?:iopt|iommufd|vfio|batch|pages)_\w*(?:flush|clean|wbinvd)(?!up|_thread)\w*"
    r"|\w*(?:flush|clean)(?!up)\w*(?:non_?coherent|non?_?snoop)\w*"
    r"|\w*(?:non_?coherent|non?_?snoop)\w*(?:flush|clean)(?!up)\w*"
)


def suspects(names: Iterable[str]) -> list[str]:
    """Return those of *names* that look like a function that flushes DMA pages. Pure."""
    return sorted({name for name in names if _SUSPECT.fullmatch(name)})


def suspects_here() -> list[str]:
    """Return the suspect functions of the running kernel; see :func:`suspects`."""
    if not KALLSYMS.exists():
        return []
    with KALLSYMS.open() as lines:
        rows = (line.split() for line in lines)
        return suspects(row[2] for row in rows if row[1] in "tT")
