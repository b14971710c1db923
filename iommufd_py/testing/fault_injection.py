# SPDX-License-Identifier: MIT
"""Fail every allocation of a sequence of calls in turn, to run the error paths of the kernel."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.errors import ToolError
from iommufd_py.uapi.fail_nth import FAIL_NTH, InjectionOutcome, Program

_DEBUGFS = Path("/sys/kernel/debug")
# Far more than any sequence has; a sweep that gets here does not end.
_LIMIT = 1000


def injection_problem() -> str | None:
    """Say why allocations cannot be failed here, None if they can."""
    if not FAIL_NTH.exists():
        return "needs a kernel with CONFIG_FAULT_INJECTION: run it in the lab"
    if not (_DEBUGFS / "failslab").is_dir():
        return "needs root, debugfs mounted, CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS: run it in the lab"
    return None


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Let every allocation fail, also those that may sleep, and quietly; afterwards all is set as it was."""
    wanted = {
        _DEBUGFS / "failslab/ignore-gfp-wait": "N",
        _DEBUGFS / "fail_page_alloc/ignore-gfp-wait": "N",
        _DEBUGFS / "fail_page_alloc/ignore-gfp-highmem": "N",
        **dict.fromkeys(_DEBUGFS.glob("fail*/verbose"), "0"),
    }
    before = {file: file.read_text().strip() for file in wanted if file.exists()}
    try:
        for file in before:
            file.write_text(wanted[file])
        yield
    finally:
        for file, value in before.items():
            file.write_text(value)


def sweep(program: Program) -> Iterator[InjectionOutcome]:
    """Run *program* with its first allocation failed, its second, and so on, until there is none left to fail.

    The last outcome is that of the run in which nothing was failed any more.

    Raises:
        ToolError: the sequence never ends.
    """
    for nth in range(1, _LIMIT):
        outcome = program.run(nth)
        yield outcome
        if not outcome.injected:
            return
    raise ToolError(f"{_LIMIT} allocations were failed and there still are more: the sequence does not end")
