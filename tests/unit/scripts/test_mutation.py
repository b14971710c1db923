# SPDX-License-Identifier: MIT
"""How `scripts/mutate` keeps, resumes and reports its results."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from iommufd_py.host.kernel_log import Splat, scan_kernel_log
from iommufd_py.lab import cache, paths
from iommufd_py.lab.cache import Kernel, Recipe
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.mutation import Mutant
from iommufd_py.lab.runs import RunResult
from scripts.mutation import guests, table
from scripts.mutation.guests import Answers, run_mutants
from scripts.mutation.kept import Kept
from scripts.mutation.switchable import MutantSource, added_lines, compile_all, not_compiled, touched_files
from scripts.mutation.table import NOT_COMPILED, MechanicalResult, MutantResult
from tests.documents import check_documents

FIRST = Mutant(1, "drivers/a.c", 12, "statement dropped", "flush(page);", "")
SECOND = Mutant(2, "drivers/a.c", 14, "condition negated", "dirty", "!(dirty)")
THIRD = Mutant(3, "drivers/b.c", 3, "1 for 0", "count = 0;", "count = 1;")
FOUND, SURVIVED = MechanicalResult("violated", "map: violated: rule 1"), MechanicalResult()


def test_a_result_is_kept_for_the_same_text_and_directory_only(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "one")
    kept.put("text", {"by": "violated", "found": "map"})
    assert Kept(tmp_path / "one").get("text") == {"by": "violated", "found": "map"}
    assert kept.get("another text") is None
    assert Kept(tmp_path / "two").get("text") is None


def test_a_survivor_is_a_result_too(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put("text", {"by": "", "found": ""})
    assert kept.get("text") == {"by": "", "found": ""}


def test_a_file_that_is_cut_off_is_no_result(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put("text", {"by": "violated", "found": "map"})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:10])
    assert kept.get("text") is None


def test_another_kernel_option_or_source_has_its_own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = ("scripts/changelog.py",)
    Kept.of(sources, "kernel", "*").put("text", {"found": "map"})
    assert Kept.of(sources, "kernel", "*").get("text") == {"found": "map"}
    assert Kept.of(sources, "other kernel", "*").get("text") is None
    assert Kept.of(sources, "kernel", "map-*").get("text") is None
    assert Kept.of(("scripts/demo_table.py",), "kernel", "*").get("text") is None


def test_results_of_others_are_removed_the_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change of the tool makes a directory. They stayed for ever."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    others = [paths.mutants_dir() / str(number) for number in range(20)]
    for age, directory in enumerate(others):
        directory.mkdir(parents=True)
        os.utime(directory, (1e9 - age, 1e9 - age))
    kept = Kept.of(("scripts/changelog.py",), "kernel")
    kept.put("text", {"found": "map"})
    assert len(list(paths.mutants_dir().iterdir())) == 8
    assert [one.exists() for one in others] == [True] * 7 + [False] * 13
    assert Kept.of(("scripts/changelog.py",), "kernel").get("text") == {"found": "map"}


def test_the_number_of_a_mutant_does_not_identify_it() -> None:
    same = Mutant(7, FIRST.file, FIRST.line, FIRST.operator, FIRST.before, FIRST.after)
    assert table.mutant_identity(same) == table.mutant_identity(FIRST)
    assert len({table.mutant_identity(one) for one in (FIRST, SECOND, THIRD)}) == 3


def rows_of(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def result(*, timed_out: bool = False, splats: tuple[Splat, ...] = ()) -> RunResult:
    return RunResult(None, "uml", 3600.0, timed_out, None, splats, Path("kernel.log"))


def test_a_result_is_told_when_its_line_is_complete() -> None:
    told: list[tuple[int, str, str]] = []
    answers = Answers(lambda *row: told.append(row))
    text = b"loading...\n" + rows_of({"number": 1}, {"number": 1, "by": "violated", "found": "map"}, {"number": 2})
    for at in range(len(text)):
        answers.write(text[at : at + 1])
        assert bool(told) == (b'"found": "map"}\n' in text[: at + 1])
    assert told == [(1, "violated", "map")]
    assert (answers.begun, answers.done) == (2, {1})


class Guests:
    """Guests with given outputs, one after the other. They record the numbers of the mutants that each must judge."""

    def __init__(self, *outputs: tuple[bytes, RunResult]) -> None:
        self.outputs = list(outputs)
        self.asked: list[list[int]] = []

    def __call__(self, command: Sequence[str], stdout: BinaryIO) -> RunResult:
        self.asked.append([int(word) for word in command[4:]])
        text, ended = self.outputs.pop(0)
        stdout.write(text)
        return ended


def judged(run_guest: Guests, numbers: Sequence[int]) -> dict[int, tuple[str, str]]:
    told: dict[int, tuple[str, str]] = {}
    run_mutants(numbers, "*", "mock", run_guest, lambda number, by, found: told.update({number: (by, found)}))
    return told


def test_a_mutant_that_ends_the_guest_is_found_and_the_next_guest_continues() -> None:
    panic = scan_kernel_log("[    1.0] Kernel panic - not syncing: mutant\n")
    crashed = rows_of({"number": 1}, {"number": 1, "by": "", "found": ""}, {"number": 2})
    other = rows_of({"number": 3}, {"number": 3, "by": "violated", "found": "map"})
    run_guest = Guests((crashed, result(splats=panic)), (other, result()))
    told = judged(run_guest, [1, 2, 3])
    assert run_guest.asked == [[1, 2, 3], [3]]
    assert told[1] == ("", "") and told[3] == ("violated", "map")
    assert told[2][0] == "end of the guest" and "not syncing" in told[2][1]


@pytest.mark.parametrize(("seconds", "asked"), [(0, [[1, 2], [2]]), (guests.HANG_SECONDS, [[1, 2]])])
def test_only_a_mutant_that_hangs_for_long_is_found_by_the_timeout(
    monkeypatch: pytest.MonkeyPatch, seconds: float, asked: list[list[int]]
) -> None:
    monkeypatch.setattr(Answers, "begun_seconds", seconds)
    first = rows_of({"number": 1}, {"number": 1, "by": "", "found": ""}, {"number": 2})
    second = rows_of({"number": 2}, {"number": 2, "by": "", "found": ""})
    run_guest = Guests((first, result(timed_out=True)), (second, result()))
    told = judged(run_guest, [1, 2])
    assert run_guest.asked == asked
    assert told[2] == (("end of the guest", "the guest hung for 400 s") if seconds else ("", ""))


def test_a_guest_that_judges_nothing_is_an_error() -> None:
    with pytest.raises(LabError, match="judged no mutant"):
        judged(Guests((b"", result())), [1])


ROWS = [(FIRST, FOUND), (SECOND, SURVIVED), (THIRD, MechanicalResult(NOT_COMPILED))]


def test_the_documents_conform_to_their_schemas() -> None:
    document = table.mechanical_document(ROWS, series="7.3", guest="native", device="mock", scenarios="*")
    check_documents(json.dumps(document))
    assert document["not_compiled"] == 1
    assert [(one["line"], one["by"]) for one in document["mutants"]] == [(12, "violated"), (14, None)]
    kernels = [MutantResult("rule1-no-mark", True, "map (1)", "", 12.345, 30.0)]
    check_documents(json.dumps(table.kernels_document(kernels, series="7.3", guest="incoherent")))


def test_the_summary_counts_judged_mutants_only() -> None:
    assert list(table.summary(ROWS)) == [
        "1 of 2 found; 1 did not compile",
        "found: 1 by violated",
        "survived: 1 condition negated",
    ]
    assert table.survivors(ROWS) == 1
    assert table.row_text(SECOND, SURVIVED) == "    2 SURVIVED drivers/a.c:14: condition negated: dirty"


def test_the_files_and_lines_of_patches() -> None:
    assert touched_files(["+++ b/a.c\n+++ b/b.c\n", "+++ b/a.c\n"]) == ["a.c", "b.c"]
    assert added_lines("@@ -3,0 +4,2 @@\n+x\n+y\n@@ -9 +12 @@\n-z\n+z\n@@ -20,2 +22,0 @@\n") == {4, 5, 12}


def test_the_compiler_names_the_mutants_of_its_line() -> None:
    log = "drivers/a.c:12:5: error: no\ndrivers/a.c:13:1: warning: well\nkernel/b.c:7:1: error: no"
    assert not_compiled(log, {"drivers/a.c": {12: [1, 2], 13: [3]}, "drivers/b.c": {7: [4]}}) == {1, 2}


SERIES = """--- a/drivers/iommu/iommufd/x.c
+++ b/drivers/iommu/iommufd/x.c
@@ -1,4 +1,6 @@
 #include <linux/iommu.h>
 void f(void)
 {
+\tflush(page);
+\tcount();
 }
"""


def test_mutants_that_do_not_compile_are_dropped_and_the_others_built(tmp_path: Path) -> None:
    tree, work, patch = tmp_path / "tree", tmp_path / "work", tmp_path / "series" / "1.patch"
    for name, text in (
        ("drivers/iommu/iommufd/x.c", "#include <linux/iommu.h>\nvoid f(void)\n{\n}\n"),
        ("kernel/params.c", "#include <linux/module.h>\n"),
    ):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text(text)
    patch.parent.mkdir()
    patch.write_text(SERIES)
    source = MutantSource(work, tree, [patch])
    assert [(one.line, one.operator) for one in source.mutants] == [
        (4, "statement dropped"),
        (5, "statement dropped"),
        (4, "done after the next statement"),
    ]
    made = Kernel(tmp_path, Recipe("patched", "7.3", "linux-source-7.3", "c", "p", "gcc"), "7.3.4", "now")
    seen: list[str] = []

    def build_with(change: Path) -> cache.Kernel:
        seen.append(change.read_text())
        if "mutant(2)" in seen[-1]:
            line = (work / "mutated/drivers/iommu/iommufd/x.c").read_text().split("\n")
            at = next(number for number, text in enumerate(line, 1) if "mutant(2)" in text)
            raise LabError(f"drivers/iommu/iommufd/x.c:{at}:3: error: no such function")
        return made

    dropped: list[Mutant] = []
    kernel, compiled = compile_all(source, source.mutants, build_with, dropped.append)
    assert kernel is made and len(seen) == 2
    assert [one.number for one in dropped] == [2] and [one.number for one in compiled] == [1, 3]
    assert "+\tdo {" in seen[1] and "core_param(mutant" in seen[1]
    with pytest.raises(LabError, match="no space"):
        compile_all(source, source.mutants, fails, dropped.append)


def fails(_: Path) -> Kernel:
    raise LabError("no space left on the disk")
