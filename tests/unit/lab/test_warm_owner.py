# SPDX-License-Identifier: MIT
"""A warm guest ends with the shell or script that started it, and not with a process in between."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import patience

# `true` is there so that no shell replaces itself with the program.
PROGRAM = (
    f"{shlex.quote(sys.executable)} -c 'from iommufd_py.lab.warm.keeper import find_owner; print(find_owner())'; true"
)


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(
    "script",
    [
        f"{PROGRAM}; echo $$",
        f'owner=$({PROGRAM}); echo "$owner"; echo $$',
        f'owner=$(echo $({PROGRAM}); true); echo "$owner"; echo $$',
        f"({PROGRAM}); echo $$",
        # A shell that was started by another one is a program of its own, also with the same arguments.
        f'if [ -z "$again" ]; then again=1 $0 -c "$script" $0; else {PROGRAM}; echo $$; fi; true',
    ],
)
def test_the_owner_is_the_shell(shell: str, script: str) -> None:
    command = ["env", f"script={script}", shell, "-c", script, shell]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(10), check=True)
    owner, expected = done.stdout.split()
    assert owner == expected


def test_sudo_is_not_the_owner(tmp_path: Path) -> None:
    """The program here is not sudo, but has its name."""
    sudo = shutil.copy(shutil.which("dash") or "", tmp_path / "sudo")
    script = f"{sudo} -c {shlex.quote(PROGRAM)}; echo $$"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=patience(10), check=True)
    owner, expected = done.stdout.split()
    assert owner == expected
