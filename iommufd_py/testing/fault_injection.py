# SPDX-License-Identifier: MIT
"""Fail every allocation of a sequence of calls in turn, to test the kernel's error paths."""

from collections.abc import Iterator

from iommufd_py.base.errors import ToolError
from iommufd_py.uapi.fail_nth import InjectionOutcome, Program

# A sequence has far fewer allocations. A sweep that reaches this number would never end.
_LIMIT = 1000


def sweep(program: Program) -> Iterator[InjectionOutcome]:
    """Run *program* with its first allocation failing, then with its second, and so on until no allocation fails.

    The last outcome is that of the run without a failing allocation.

    Raises:
        ToolError: the sequence has too many allocations.
    """
    for nth in range(1, _LIMIT + 1):
        outcome = program.run(nth)
        yield outcome
        if not outcome.injected:
            return
    raise ToolError(f"{_LIMIT} allocations have failed, and the sequence has still more: it does not end")
