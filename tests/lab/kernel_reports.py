# SPDX-License-Identifier: MIT
"""Reports of a guest's kernel, which make a command of `lab run` fail that succeeded."""

import subprocess
from pathlib import Path

import pytest

from tests.programs import IOMMUFD

EACH_REPORT = pytest.mark.parametrize(
    ("level", "report"),
    [(4, "WARNING: drivers/iommu/x.c:1 at f+0x1/0x2, CPU#0: x/1"), (7, "BUG: MAX_LOCKDEP_CHAINS too low!")],
    ids=["warning", "lockdep-gave-up"],
)


def check_that_a_report_fails(image: Path, level: int, report: str, *options: str) -> None:
    """Run a command that succeeds, and that writes *report* to the log of the guest's kernel."""
    script = f"echo done; echo '<{level}>{report}' > /dev/kmsg"
    done = subprocess.run(
        [IOMMUFD, "lab", "run", "--fresh", *options, "--kernel", str(image), "--", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "done\n"
    assert f"iommufd: error: the guest's kernel reported: {report}" in done.stderr
    assert "Traceback" not in done.stderr
