# SPDX-License-Identifier: MIT
"""Fail every allocation of a sequence of calls in turn, to test the kernel's error paths."""

from collections.abc import Iterator

from iommufd_py.base.errors import ToolError
from iommufd_py.uapi.fail_nth import InjectionOutcome, Program
from iommufd_py.uapi.fault_injection import injection_problem, injection_settings

__all__ = ["injection_problem", "injection_settings", "sweep"]

# Far more than any sequence has. A sweep that gets here does not end.
_LIMIT = 1000


def sweep(program: Program) -> Iterator[InjectionOutcome]:
    """Run *program* with its first allocation failed, then its second, and so on, until none is left to fail.

    The last outcome is that of the run in which no allocation was failed any more.

    Raises:
        ToolError: the sequence has more allocations than any sequence should.
    """
    for nth in range(1, _LIMIT):
        outcome = program.run(nth)
        yield outcome
        if not outcome.injected:
            return
    raise ToolError(f"{_LIMIT} allocations were failed and there still are more: the sequence does not end")
