# SPDX-License-Identifier: MIT
"""The packages that a user installs: the sdist, the wheel made from it, and the tool in a separate environment."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a copy without artefacts, and the wheel from the sdist alone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    list_files = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(list_files, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
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
