# SPDX-License-Identifier: MIT
"""The packages that a user installs: the sdist, the wheel made from it, and the tool in a separate environment."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import click
import pytest
from iommufd_py.cli.commands import all_commands
from iommufd_py.cli.main import iommufd

from cffi_build.shared_files import COMPLETIONS, MAN
from iommufd_py.results import document
from tests.files import write_files
from tests.unit.results.bench_results import process_run, result

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a copy without artefacts, and the wheel from the sdist alone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    list_files = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(list_files, cwd=ROOT, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    write_files(source, {name: (ROOT / name).read_bytes() for name in names})
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, source], check=True, capture_output=True)
    return out


def test_sdist_has_what_a_build_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [*(ROOT / "cffi_build").rglob("*.[ch]"), *(ROOT / "cffi_build").glob("*.py"), *(ROOT / "cli").glob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in wanted} <= names
    assert "LICENSE" in names


def test_wheel_is_abi3_and_carries_the_labs_data(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert "-cp311-abi3-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"iommufd_py/{name}" for name in ("_uapi.abi3.so", "_uapi.pyi", "py.typed", "cli/main.py")} <= names
    data = [*(ROOT / "iommufd_py/lab/configs").iterdir(), *(ROOT / "iommufd_py/lab/patches").rglob("*.*")]
    assert {str(path.relative_to(ROOT)) for path in data if path.is_file()} <= names
    assert not any(name.startswith(("tests/", "cffi_build/", "cli/")) for name in names)


def test_wheel_works_without_the_checkout(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    (wheel,) = built.glob("*.whl")
    subprocess.run([programs / "pip", "install", "--quiet", wheel], check=True)
    done = subprocess.run([programs / "iommufd", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("iommufd, version ")
    light = "import sys, iommufd_py; print([m for m in ('click', 'rich', 'pyudev', 'numpy') if m in sys.modules])"
    done = subprocess.run([programs / "python", "-c", light], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", "importing iommufd_py imports more than cffi"


def test_missing_package_comes_with_the_command_that_installs_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index that has this tool: pip keeps the one that is installed."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    (wheel,) = built.glob("*.whl")
    subprocess.run([programs / "pip", "install", "--quiet", wheel], check=True)
    document.save(result(process_run([1000, 1100, 1200], [500, 600, 700])), tmp_path / "RESULT")

    def run(command: str) -> tuple[int, str]:
        done = subprocess.run(command, cwd=tmp_path, shell=True, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    for command, remedy in (
        ("iommufd bench plot RESULT --html /dev/null", r"needs \w+, which is not installed: run (pip install '.*')$"),
        ("iommufd lab doctor", r"^to fix: (pip install 'iommufd-py\[lab\]')$"),
    ):
        status, text = run(command)
        named = re.search(remedy, text, re.MULTILINE)
        assert status == 1
        assert named is not None, text
        assert run(named[1])[0] == 0
        status, text = run(command)
        assert not re.search(remedy, text, re.MULTILINE), text
        # The doctor may miss other things on this machine.
        assert status == 0 or command.endswith("doctor"), text


def test_wheel_brings_a_man_page_for_each_command(built: Path, tmp_path: Path) -> None:
    data = unpacked_data(built, tmp_path)
    names = {
        f"{context.command_path.replace(' ', '-')}.1"
        for context in all_commands(click.Context(iommufd, info_name="iommufd"))
    }
    assert {path.name for path in (data / MAN).iterdir()} == names
    assert len(names) > 30
    page = render(data / MAN / "iommufd-device-bind.1")
    assert "iommufd device bind [OPTIONS] BDF..." in page
    assert "       iommufd device bind --dry-run 0000:00:10.0\n" in page
    assert "--group\n              Also bind the other endpoints of the IOMMU group.\n" in page


def test_man_pages_are_right_roff(built: Path, tmp_path: Path) -> None:
    data = unpacked_data(built, tmp_path)
    for page in (data / MAN).iterdir():
        check = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True, check=True
        )
        assert check.stderr == ""
        assert f"{page.stem} - " in " ".join(render(page).split())


def test_wheel_brings_completion_for_three_shells(built: Path, tmp_path: Path) -> None:
    data = unpacked_data(built, tmp_path)
    program = Path(sys.executable).with_name("iommufd")
    for shell, place in COMPLETIONS.items():
        printed = subprocess.run([program, "completion", shell], capture_output=True, text=True, check=True).stdout
        assert (data / place).read_text().strip() == printed.strip()


def unpacked_data(built: Path, directory: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    (data,) = directory.glob("*.data/data")
    return data


def render(page: Path) -> str:
    environment = {**os.environ, "MANWIDTH": "120", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["man", "-l", page], env=environment, capture_output=True, text=True, check=True).stdout
