# SPDX-License-Identifier: MIT
"""Run the unit tests that are not slow and of which a file changed since they passed; for ./scripts/check.

./scripts/test runs all unit tests, always. Exit status: 0 all passed, 1 a test failed.
"""

import json
import multiprocessing
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.inputs import digest_inputs

ROOT = Path(__file__).resolve().parent.parent
# The digest of each file's inputs when its tests passed, and the seconds that they took.
_PASSED = ROOT / "build" / "quick-tests.json"
# A test that looks for the root of the checkout reads files that it does not import, so it runs each time.
_READS_THE_CHECKOUT = re.compile(r"\b(__file__|ROOT|documents)\b")
_PROCESSES = 2


@dataclass(eq=False)
class Watch:
    """A pytest plugin that collects the seconds of each test file, and the files with a failure."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    failed: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the duration and the failure of a test."""
        self.seconds[report.fspath] += report.duration
        if report.failed:
            self.failed.add(report.fspath)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that pytest could not collect."""
        if report.failed:
            self.failed.add(report.fspath)


def run_files(files: list[str]) -> tuple[int, dict[str, float], set[str]]:
    """Run the tests of *files*. Return pytest's status, the seconds of each file, and the files with a failure."""
    watch = Watch()
    status = pytest.main(["-q", "-p", "no:cacheprovider", "-m", "not slow", *files], plugins=[watch])
    return int(status), dict(watch.seconds), watch.failed


def share(files: Iterable[str], seconds: dict[str, float]) -> list[list[str]]:
    """Share *files* among the processes, so that all end at about the same time. A new file counts a second."""
    shares: list[list[str]] = [[] for _ in range(_PROCESSES)]
    for name in sorted(files, key=lambda name: -seconds.get(name, 1)):
        min(shares, key=lambda share: sum(seconds.get(name, 1) for name in share)).append(name)
    return [sorted(share) for share in shares if share]


def main() -> int:
    """Run the tests."""
    known = json.loads(_PASSED.read_text()) if _PASSED.exists() else {"digests": {}, "seconds": {}}
    # Every test file has the settings and conftest.py in common. What conftest.py imports is for ./scripts/test.
    common = [sys.version, *((ROOT / name).read_text() for name in ("pyproject.toml", "tests/conftest.py"))]
    digests = {
        name: digest_inputs(ROOT, [name], common, always=["cffi_build/abi", "cffi_build/csrc"])
        for name in (str(file.relative_to(ROOT)) for file in (ROOT / "tests/unit").rglob("test_*.py"))
    }
    changed = [
        name
        for name, digest in digests.items()
        if known["digests"].get(name) != digest or _READS_THE_CHECKOUT.search((ROOT / name).read_text())
    ]
    # Each process collects its own files only; the workers of pytest-xdist would all collect all files.
    with ProcessPoolExecutor(_PROCESSES, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(run_files, share(changed, known["seconds"])))
    failed = set().union(*(one[2] for one in results))
    seconds = {name: took for one in results for name, took in one[1].items()}
    passed = {name: digest for name, digest in digests.items() if name not in failed}
    statuses = {one[0] for one in results} - {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    if statuses <= {pytest.ExitCode.TESTS_FAILED}:
        _PASSED.parent.mkdir(exist_ok=True)
        _PASSED.write_text(json.dumps({"digests": passed, "seconds": {**known["seconds"], **seconds}}))
    print(f"unit tests: {len(changed)} files ran, {len(digests) - len(changed)} passed before and did not change")
    return int(bool(statuses))


if __name__ == "__main__":
    sys.exit(main())
