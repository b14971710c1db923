# SPDX-License-Identifier: MIT
"""Random operations on kernel and model side by side, and a failing sequence as a short script.

This is not a hypothesis state machine, because a long run must spend its time in the kernel. Hypothesis tests the model
alone, in tests/unit/mock/test_model.py.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from types import CodeType, TracebackType
from typing import Self, TypeVar

from iommufd_py import Iommufd, IommufdError, flush_count
from iommufd_py.mock import limit_memory
from tests.mock import steps
from tests.mock.areas import CPU_PAGE, IoptArea
from tests.mock.choose import random_operations
from tests.mock.model import IommufdModel, NotApplicable
from tests.mock.steps import CheckedLine, Operation

# A walk starts again after so many steps. This also limits the length of a failing walk before it is shortened.
EPISODE = 250
SHORTEN_S = 60

T = TypeVar("T")


class RunningKernel:
    """The running kernel, as a namespace in which lines run."""

    def __enter__(self) -> Self:
        self._names: dict[str, object] = {}
        exec(_compiled(steps.PRELUDE, "exec"), self._names)
        return self

    def differs(self, line: CheckedLine) -> str:
        """Run *line*; return a description of a wrong result, empty for a correct one."""
        try:
            if line.value is None:
                exec(_compiled(line.source, "exec"), self._names)
                got: object = None
            else:
                got = eval(_compiled(line.source, "eval"), self._names)
        except IommufdError as failure:
            return "" if failure.errno_name == line.error else f"the kernel refused it: {failure}"
        if line.error:
            return f"the kernel took it, and did not refuse it with {line.error}"
        return "" if got == line.value else f"the kernel says {steps.as_expression(got)}"

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with Iommufd() as iommufd:
            limit_memory(iommufd, None)
        for name in ("iommufd", "buffer", "memfd"):
            exec(_compiled(f"{name}.close()", "exec"), self._names)


@lru_cache(maxsize=4096)
def _compiled(source: str, mode: str) -> CodeType:
    return compile(source, "<model test>", mode)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Kernel and model disagree.

    Attributes:
        operations: the operations; the last one revealed the difference.
        lines: their lines, and the line of the failed check, if any.
        got: the result of the kernel.
    """

    operations: tuple[Operation, ...]
    lines: tuple[CheckedLine, ...]
    got: str

    def script(self) -> str:
        """Return a program whose last line fails like the walk."""
        lines = list(map(str, self.lines))
        if any(isinstance(operation, steps.LimitMemory) for operation in self.operations):
            # The limit applies to all iommufds.
            lines.insert(0, "import atexit\n\natexit.register(limit_memory, iommufd, None)")
        return "\n".join([steps.PRELUDE, *lines, f"# {self.got}", ""])


def walk(seed: int, count: int, make_model: Callable[[], IommufdModel]) -> tuple[int, Divergence | None]:
    """Make *count* random steps, or fewer if kernel and model differ; return the number, and the difference."""
    made = 0
    while made < count:
        model = make_model()
        operations = random_operations(model, Random(f"{seed} {made}"))
        limit = min(EPISODE, count - made)
        found = _follow(operations, model, limit, every_step=True)
        if found is not None:
            return made + len(found.operations), found
        made += limit
    return made, None


def _follow(operations: Iterator[Operation], model: IommufdModel, limit: int, *, every_step: bool) -> Divergence | None:
    """Apply at most *limit* of *operations* to model and kernel, and check the state after each or after the last."""
    done: list[Operation] = []
    lines: list[CheckedLine] = []
    with RunningKernel() as kernel:

        def parting(looked_at: Iterable[CheckedLine]) -> Divergence | None:
            for line in looked_at:
                got = kernel.differs(line)
                if got:
                    shown = lines if line in lines[-1:] else [*lines, line]
                    return Divergence(tuple(done), tuple(shown), got)
            return None

        found: Divergence | None = None
        expected: list[CheckedLine] = []
        for operation in operations:
            before = _areas(model)
            try:
                lines.append(operation.line(model))
            except NotApplicable:
                continue
            done.append(operation)
            expected = list(steps.checks(model, before - _areas(model)))
            found = parting([lines[-1], *(expected if every_step else ())])
            if found or len(done) == limit:
                break
        return found or parting([*expected, CheckedLine("iommufd.close()"), CheckedLine("pinned_bytes() - before", 0)])


def _areas(model: IommufdModel) -> set[tuple[str, IoptArea]]:
    return {(name, area) for name, ioas in model.ioases.items() for area in ioas.areas}


def shortened(found: Divergence, make_model: Callable[[], IommufdModel]) -> Divergence:
    """Remove operations from *found* as long as kernel and model still differ, for at most a minute."""
    deadline = time.monotonic() + SHORTEN_S
    best = found

    def still_parts(operations: Sequence[Operation]) -> bool:
        nonlocal best
        if not operations or time.monotonic() > deadline:
            return False
        again = _follow(iter(operations), make_model(), len(operations), every_step=False)
        best = again or best
        return again is not None

    minimal(found.operations, still_parts)
    return best


def minimal(items: Sequence[T], still: Callable[[Sequence[T]], bool]) -> list[T]:
    """Return a part of *items* for which *still* holds. Without any one item of the part it no longer holds."""
    kept = list(items)
    chunk = len(kept)
    while chunk:
        start, length = 0, len(kept)
        while start < len(kept):
            fewer = kept[:start] + kept[start + chunk :]
            if still(fewer):
                kept = fewer
            else:
                start += chunk
        # An item that was necessary before may be unnecessary now.
        if chunk > 1 or len(kept) == length:
            chunk //= 2
    return kept


def iova_granule() -> int:
    """Return the maximum alignment in bytes of an IOVA that this kernel chooses (iopt_alloc_iova())."""
    return 2 << 20 if Path("/sys/kernel/mm/transparent_hugepage").exists() else CPU_PAGE


def checks_pieces() -> bool:
    """Return whether this kernel checks each piece of a copied range, as the fix with the flush series does."""
    with Iommufd() as iommufd:
        return flush_count(iommufd) is not None
