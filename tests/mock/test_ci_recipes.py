# SPDX-License-Identifier: MIT
"""The kselftest wrapper of the documentation, on the kernel that runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from iommufd_py import Iommufd, flush_count
from tests.programs import SEARCH_PATH
from tests.waiting import patience

pytestmark = pytest.mark.mock

WRAPPER = Path(__file__).parents[2] / "docs/how-to/ci/iommufd_validate.sh"
PASS, FAIL, SKIP = 0, 1, 4


def test_wrapper_prints_ktap_and_ends_as_a_kselftest(iommufd: Iommufd) -> None:
    environment = {**os.environ, "PATH": SEARCH_PATH}
    done = subprocess.run(
        ["sh", WRAPPER], env=environment, capture_output=True, text=True, timeout=patience(180), check=False
    )
    lines = done.stdout.splitlines()
    assert lines[0] in ("KTAP version 1", "TAP version 13")
    if lines[1].startswith("1..0 # SKIP"):
        assert flush_count(iommufd) is None
        assert done.returncode == SKIP
        return
    planned = next(int(line.removeprefix("1..")) for line in lines if re.fullmatch(r"1\.\.\d+", line))
    results = [line for line in lines if re.match(r"(not )?ok \d+", line)]
    assert len(results) == planned > 0
    failed = any(line.startswith("not ok") for line in results)
    # The series counts flushes; without it rules are violated, or cannot be seen where there are no probes either.
    assert done.returncode in ((PASS, SKIP) if flush_count(iommufd) is not None else (FAIL, SKIP)), done.stderr
    assert failed == (done.returncode == FAIL)
