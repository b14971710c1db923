# SPDX-License-Identifier: MIT
"""The tests that ./scripts/check --native runs."""

import subprocess
from pathlib import Path

import pytest

from scripts import changed
from tests.files import write_files


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "pyproject.toml": "",
        "scripts/setup": "",
        "tests/conftest.py": "",
        "cffi_build/abi/iommufd.h": "",
        "cffi_build/csrc/uapi.c": "",
        "cffi_build/build_ext.py": "",
        "cffi_build/build_uapi.py": "",
        "iommufd_py/__init__.py": "",
        "iommufd_py/api.py": "",
        "iommufd_py/testing/plugin.py": "",
        "iommufd_py/objects/__init__.py": "",
        "iommufd_py/objects/ioas.py": "",
        "iommufd_py/objects/hwpt.py": "",
        "tests/mock/test_ioas.py": "from iommufd_py.objects.ioas import Ioas",
        "tests/mock/test_hwpt.py": "from iommufd_py.objects.hwpt import Hwpt",
        "tests/mock/test_model.py": "from iommufd_py.objects.ioas import Ioas",
    }
    write_files(tmp_path, files)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "--message=first")
    git(tmp_path, "switch", "--quiet", "--create", "change")
    monkeypatch.setattr(changed, "ROOT", tmp_path)
    return tmp_path


def git(checkout: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", checkout, *arguments], check=True)


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("iommufd_py/objects/ioas.py", ["test_ioas"]),
        ("tests/mock/test_new.py", ["test_new"]),
        ("README.md", []),
        # These decide the result of every test.
        ("tests/conftest.py", ["test_hwpt", "test_ioas"]),
        ("cffi_build/csrc/uapi.c", ["test_hwpt", "test_ioas"]),
    ],
)
def test_a_changed_file_selects_the_tests_that_depend_on_it(
    checkout: Path, capsys: pytest.CaptureFixture[str], file: str, tests: list[str]
) -> None:
    (checkout / file).write_text("# changed")
    changed.main()
    assert [Path(line).stem for line in capsys.readouterr().out.splitlines()] == tests


def test_a_clone_without_main_is_an_error(checkout: Path) -> None:
    git(checkout, "branch", "--quiet", "--delete", "--force", "main")
    with pytest.raises(SystemExit, match=r"cannot find the changes since main: .*; run: git fetch origin main:main"):
        changed.main()
