# SPDX-License-Identifier: MIT
"""The example program that reads results: docs/examples/cost_per_page.py."""

import subprocess
import sys
from pathlib import Path

from iommufd_py.results import document
from iommufd_py.results.model import BenchResult
from tests.unit.results.bench_results import process_run, result
from tests.waiting import patience

PROGRAM = Path(__file__).parents[3] / "docs/examples/cost_per_page.py"
MAPS = (9_000, 10_000, 12_000)  # two pages
UNMAPS = (5_000, 5_000, 5_000)


def kernel(*added: int) -> BenchResult:
    """Return a result with a boot for each time that is added to each page of a map."""
    return result(
        *(
            process_run([ns + 2 * more] * 3, [unmap] * 3, boot=f"{more} {round_id}", round_id=str(round_id))
            for round_id, (ns, unmap, more) in enumerate(zip(MAPS, UNMAPS, added, strict=False))
        )
    )


def rows(directory: Path, before: BenchResult, after: BenchResult) -> list[list[str]]:
    """Run the program, and return the columns from the operation on."""
    files = [directory / name for name in ("before.json", "after.json")]
    for one, file in zip((before, after), files, strict=True):
        document.save(one, file)
    command = [sys.executable, PROGRAM, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(30), check=False)
    assert done.returncode == 0, done.stderr
    return [line.split()[3:] for line in done.stdout.splitlines()[1:]]


def test_boots_of_a_round_are_compared_with_each_other(tmp_path: Path) -> None:
    """The boots differ by more than the patch adds."""
    found = rows(tmp_path, kernel(0, 0, 0), kernel(50, 50, 50))
    assert found == [["map", "50.00", "50.00", "to", "50.00"], ["unmap", "0.00", "0.00", "to", "0.00"]]
    _, value, low, _, high = rows(tmp_path, kernel(0, 0, 0), kernel(49, 50, 51))[0]
    assert float(low) < 49 < float(value) == 50 < 51 < float(high)


def test_two_boots_have_no_interval(tmp_path: Path) -> None:
    assert rows(tmp_path, kernel(0, 0), kernel(50, 50))[0] == ["map", "50.00", "none:", "too", "few", "boots"]
