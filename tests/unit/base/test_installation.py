# SPDX-License-Identifier: MIT
"""The remedy for a missing package is a command that works for this installation."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import iommufd_py
from iommufd_py.base.installation import command_for_extra
from iommufd_py.results import document
from tests.unit.fleet.test_plan import SMALL
from tests.unit.results.bench_results import result

DEBIAN = "/usr/lib/python3/dist-packages"
# No package of an extra is installed.
PROGRAM = """
import importlib.metadata, sys
found = importlib.metadata.version
def version(name):
    if name == "virtme-ng":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
sys.modules |= {"labgrid": None, "matplotlib": None}
from iommufd_py.cli.start import main
main()
"""


def test_pip_adds_to_an_environment_of_its_own() -> None:
    assert command_for_extra("report") == "pip install 'iommufd-py[report]'"


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.isdir(DEBIAN), reason="mounts the package where the Debian package has it"
)
@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("lab doctor", "to fix: sudo apt-get install pipx && pipx install 'iommufd-py[lab]'"),
        (
            "bench plot RESULT --html /dev/null",
            "run sudo apt-get install python3-matplotlib python3-numpy python3-scipy",
        ),
        ("fleet run plan.toml -o out", "run sudo apt-get install pipx && pipx install 'iommufd-py[fleet]'"),
    ],
)
def test_the_debian_package_does_not_advise_what_debian_forbids(tmp_path: Path, command: str, remedy: str) -> None:
    document.save(result(), tmp_path / "RESULT")
    (tmp_path / "plan.toml").write_text(SMALL)
    place = f"{DEBIAN}/iommufd_py"
    script = (
        f"mount -t tmpfs none {DEBIAN} && mkdir {place} && mount --bind {Path(iommufd_py.__file__).parent} {place} && "
        f"PYTHONPATH={DEBIAN} exec {sys.executable} -c {shlex.quote(PROGRAM)} {command}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if done.stderr.startswith("unshare: "):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1
    shown = done.stdout + done.stderr
    assert remedy in shown
    assert not re.search(r"\bpip install", shown)
