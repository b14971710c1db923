# SPDX-License-Identifier: MIT
"""A confined program, on this machine's kernel."""

import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.lab.confine import can_confine, confined

PROGRAM = """
import os, sys
from pathlib import Path
inside, outside = Path("inside"), Path("outside")

def refused(action):
    try:
        action()
    except PermissionError:
        return True
    return False

(inside / "made").write_text("made")
(inside / "below").mkdir()
os.rename(inside / "made", inside / "below/made")
Path("/dev/null").write_text("nothing")
actions = (
    lambda: (outside / "new").touch(),
    lambda: (outside / "kept").write_text("lost"),
    lambda: (outside / "kept").unlink(),
    lambda: os.truncate(outside / "kept", 0),
    lambda: os.rename(outside / "kept", inside / "kept"),
    lambda: (outside / "new").mkdir(),
    lambda: os.symlink("a", outside / "new"),
    lambda: os.mkfifo(outside / "new"),
)
passed = [index for index, action in enumerate(actions) if not refused(action)]
print(passed, (outside / "kept").read_text(), flush=True)
os.execlp("sh", "sh", "-c", "echo lost > outside/kept")  # children, too
"""


def test_only_named_directories_can_be_written(tmp_path: Path) -> None:
    if not can_confine():
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("kept")
    command = confined([sys.executable, "-c", PROGRAM], [Path("inside"), Path("/dev/null")])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "[] kept\n", done.stderr
    assert "ermission denied" in done.stderr
    assert (tmp_path / "outside/kept").read_text() == "kept"
    assert (tmp_path / "inside/below/made").read_text() == "made"
