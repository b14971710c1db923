# SPDX-License-Identifier: MIT
"""The unit tests that ./scripts/check runs."""

from pathlib import Path

import pytest

from scripts import quick_tests
from scripts.passed import Passed
from tests.files import write_files


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['slow']\naddopts = '--import-mode=importlib'",
        "cffi_build/abi/iommufd.h": "",
        "cffi_build/csrc/uapi.h": "",
        "tests/conftest.py": "",
        "tests/unit/conftest.py": "",
        "tests/unit/room/test_one.py": "from tests.helper import ONE\n\ndef test_one():\n    assert ONE == 1\n",
        "tests/unit/room/test_two.py": "def test_two(): pass",
        "tests/unit/room/test_slow.py": "import pytest\n\n@pytest.mark.slow\ndef test_slow(): assert False",
        "tests/helper.py": "ONE = 1",
    }
    write_files(tmp_path, files)
    monkeypatch.setattr(quick_tests, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    # The two processes import the files of this checkout and not those of ours.
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(quick_tests.__file__).parents[1]}")
    return tmp_path


def changed(checkout: Path) -> list[str]:
    passed = Passed(checkout / "build/quick-tests")
    return [Path(name).stem for name in quick_tests.changed_tests(checkout, quick_tests.digests_of(checkout), passed)]


@pytest.mark.slow
def test_a_file_runs_again_only_if_it_changed_or_failed(checkout: Path) -> None:
    assert changed(checkout) == ["test_one", "test_slow", "test_two"]
    assert quick_tests.main() == 0
    assert changed(checkout) == []
    (checkout / "tests/helper.py").write_text("ONE = 2")
    assert changed(checkout) == ["test_one"]
    assert quick_tests.main() == 1
    assert changed(checkout) == ["test_one"]
    (checkout / "tests/unit/room/test_two.py").write_text("import no_such_module")
    assert quick_tests.main() == 1
    assert changed(checkout) == ["test_one", "test_two"]


@pytest.mark.parametrize("file", ["tests/unit/conftest.py", "tests/conftest.py", "pyproject.toml"])
def test_a_file_that_all_tests_have_in_common(checkout: Path, file: str) -> None:
    before = quick_tests.digests_of(checkout)
    (checkout / file).write_text("# changed")
    after = quick_tests.digests_of(checkout)
    assert [name for name in before if before[name] == after[name]] == []


def test_a_test_that_reads_the_checkout_runs_each_time(checkout: Path) -> None:
    (checkout / "tests/unit/room/test_pages.py").write_text("ROOT = Path(__file__).parents[3]")
    passed = Passed(checkout / "build/quick-tests")
    for name, digest in quick_tests.digests_of(checkout).items():
        passed.add(name, digest, 0)
    assert changed(checkout) == ["test_pages"]


def test_the_files_are_shared_by_the_time_that_they_take(tmp_path: Path) -> None:
    passed = Passed(tmp_path)
    for name, seconds in {"long": 5.0, "b": 2.0, "c": 2.0}.items():
        passed.add(name, "", seconds)
    assert quick_tests.share(["b", "c", "long", "new"], passed) == [["long"], ["b", "c", "new"]]
