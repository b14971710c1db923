# SPDX-License-Identifier: MIT
"""Build one kernel that contains all mechanical mutants of a series."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from iommufd_py.lab import build
from iommufd_py.lab.cache import Kernel
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.mutation import (
    DEFINITION_FILE,
    DEFINITION_TEXT,
    HEADER,
    HEADER_TEXT,
    Mutant,
    locate,
    mutants_of,
    with_mutants,
)

# The code that must keep the rules. The code of the selftests and the headers stay unchanged.
FILES = ("drivers/iommu/iommufd/*.c", "drivers/vfio/*.c", "arch/x86/mm/*.c")
NOT_FILES = ("drivers/iommu/iommufd/selftest.c",)
MOST_BUILDS = 30

_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_COMPILER_ERROR = re.compile(r"(\S+?\.c):(\d+):\d+: error")

Places = dict[str, dict[int, list[int]]]
"""The numbers of the mutants on each line of each file."""


class MutantSource:
    """The files that a series changes: without its changes, with them, and with mutants."""

    def __init__(self, work: Path, tree: Path, patches: Sequence[Path]) -> None:
        """Copy the files that the patches change, once with the fixes only, once with the whole series.

        validate cannot observe the faults that the fixes repair, so no mutant changes their lines.
        """
        self._work = work
        names = touched_files([patch.read_text() for patch in patches])
        before, after = work / "before", work / "after"
        for directory in (before, after):
            for name in (*names, DEFINITION_FILE):
                if (tree / name).exists():
                    _write_new_file(directory, name, (tree / name).read_text())
        for patch in patches:
            for directory in (before, after) if patch.parent.name == "fixes" else (after,):
                build.apply_patch(patch, directory, "--forward", to="a copy of the source")
        self.mutants: list[Mutant] = []
        self._added: dict[str, set[int]] = {}
        for name in names:
            if any(fnmatchcase(name, one) for one in FILES) and name not in NOT_FILES:
                self._added[name] = added_lines(self._difference(f"before/{name}", f"after/{name}", context=0))
                text = (after / name).read_text()
                self.mutants += mutants_of(name, text, self._added[name], len(self.mutants) + 1)

    def change(self, mutants: Sequence[Mutant]) -> tuple[Path, Places]:
        """Write the patch that puts *mutants* into the patched kernel. Return it and the mutants of each line."""
        where: Places = {}
        by_number = {one.number: one for one in mutants}
        for name, lines in self._added.items():
            text = (self._work / "after" / name).read_text()
            mine = [one for one in mutants if one.file == name]
            changed = with_mutants(text, lines, mine) if mine else text
            where[name] = locate(changed, by_number)
            _write_new_file(self._work / "mutated", name, changed)
        definitions = (self._work / "after" / DEFINITION_FILE).read_text() + DEFINITION_TEXT
        _write_new_file(self._work / "mutated", HEADER, HEADER_TEXT)
        _write_new_file(self._work / "mutated", DEFINITION_FILE, definitions)
        names = (*self._added, HEADER, DEFINITION_FILE)
        file = self._work / "mutants.patch"
        file.write_text("".join(self._difference(f"after/{name}", f"mutated/{name}") for name in names))
        return file, where

    def _difference(self, old: str, new: str, context: int = 3) -> str:
        command = ["diff", "-N", f"-U{context}", old, new]
        return subprocess.run(command, cwd=self._work, capture_output=True, text=True, check=False).stdout


def touched_files(patches: Sequence[str]) -> list[str]:
    """Return the files that the texts of patches change or create."""
    return list(dict.fromkeys(name for text in patches for name in re.findall(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)))


def added_lines(difference: str) -> set[int]:
    """Return the lines of the new file that a difference without context adds or changes."""
    hunks = _HUNK.findall(difference)
    return {line for first, count in hunks for line in range(int(first), int(first) + int(count or 1))}


def not_compiled(log: str, where: Places) -> set[int]:
    """Return the mutants on the lines that the compiler complains of in its log."""
    return {
        number
        for file, line in _COMPILER_ERROR.findall(log)
        for name, numbers in where.items()
        if file.endswith(name)
        for number in numbers.get(int(line), ())
    }


def compile_all(
    source: MutantSource, mutants: list[Mutant], build_with: Callable[[Path], Kernel], drop: Callable[[Mutant], None]
) -> tuple[Kernel, list[Mutant]]:
    """Build the kernel with all mutants that compile. Return it and these mutants.

    Args:
        source: the source of the series.
        mutants: the mutants to try.
        build_with: builds the patched kernel with a patch on top.
        drop: receives each mutant that does not compile.

    Raises:
        LabError: the kernel does not build, and no mutant is the reason.
    """
    for _ in range(MOST_BUILDS):
        patch, where = source.change(mutants)
        try:
            return build_with(patch), mutants
        except LabError as failure:
            bad = not_compiled(_whole_log(str(failure)), where)
            if not bad:
                raise
            for one in mutants:
                if one.number in bad:
                    drop(one)
            mutants = [one for one in mutants if one.number not in bad]
            print(f"mutate: {len(bad)} mutants do not compile; {len(mutants)} are left", file=sys.stderr, flush=True)
    raise LabError(f"the mutants do not compile after {MOST_BUILDS} attempts")


def _whole_log(failure: str) -> str:
    log = re.search(r"the whole log is (\S+)", failure)
    return Path(log[1]).read_text(errors="replace") if log else failure


def _write_new_file(directory: Path, name: str, text: str) -> None:
    """Write a file and create its parent directories."""
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
