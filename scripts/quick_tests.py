# SPDX-License-Identifier: MIT
"""Run the unit tests that are not slow and of which a file changed since they passed; for ./scripts/check.

./scripts/test runs all unit tests, always. Exit status: 0 all passed, 1 a test failed.
"""

import multiprocessing
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.inputs import digest_inputs
from scripts.passed import Passed

ROOT = Path(__file__).resolve().parent.parent
# A test that looks for the root of the checkout, or imports modules by a name that it computes, runs each time.
_READS_THE_CHECKOUT = re.compile(r"\b(__file__|ROOT|import_module)\b")
_PROCESSES = 2
_GOOD = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
_COMPLETE = (*_GOOD, pytest.ExitCode.TESTS_FAILED)


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


def share(files: Iterable[str], passed: Passed) -> list[list[str]]:
    """Share *files* among the processes, so that all end at about the same time. A new file counts a second."""
    shares: list[list[str]] = [[] for _ in range(_PROCESSES)]
    seconds = {name: passed.seconds(name, 1) for name in files}
    for name in sorted(seconds, key=lambda name: -seconds[name]):
        min(shares, key=lambda share: sum(seconds[name] for name in share)).append(name)
    return [sorted(share) for share in shares if share]


def digests_of(root: Path) -> dict[str, str]:
    """Return the digest of the inputs of each file of unit tests below *root*."""
    # Every test file has the settings and conftest.py in common. The imports of conftest.py do not count here:
    # ./scripts/test follows them.
    common = [sys.version, *((root / name).read_text() for name in ("pyproject.toml", "tests/conftest.py"))]
    files = sorted((root / "tests/unit").rglob("test_*.py"))
    names = [str(file.relative_to(root)) for file in files]
    return {name: digest_inputs(root, [name], common, always=["cffi_build/abi", "cffi_build/csrc"]) for name in names}


def changed_tests(root: Path, digests: Mapping[str, str], passed: Passed) -> list[str]:
    """Return the files that did not pass with these inputs, and those whose inputs are not known."""
    return [
        name
        for name, digest in digests.items()
        if not passed.has(name, digest) or _READS_THE_CHECKOUT.search((root / name).read_text())
    ]


def main() -> int:
    """Run the tests."""
    passed = Passed(ROOT / "build" / "quick-tests")
    digests = digests_of(ROOT)
    changed = changed_tests(ROOT, digests, passed)
    # Each process collects its own files only; the workers of pytest-xdist would all collect all files.
    with ProcessPoolExecutor(_PROCESSES, multiprocessing.get_context("spawn")) as pool:
        shares = share(changed, passed)
        results = list(pool.map(run_files, shares))
    for files, (status, seconds, failed) in zip(shares, results, strict=True):
        # With another status, pytest has not run all files.
        if status in _COMPLETE:
            for name in set(files) - failed:
                passed.add(name, digests[name], seconds.get(name, 0))
    print(f"unit tests: {len(changed)} files ran, {len(digests) - len(changed)} passed before and did not change")
    return int(any(status not in _GOOD for status, _, _ in results))


if __name__ == "__main__":
    sys.exit(main())
