# SPDX-License-Identifier: MIT
"""A laptop without the compiled extension reads, compares and draws results."""

import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.results import document
from tests.unit.results.bench_results import result

PROGRAM = """
import importlib, pkgutil, sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("iommufd_py._uapi", "iommufd_py.uapi", "cffi", "_cffi_backend", "pyudev"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Absent())
import iommufd_py.results as room
for module in pkgutil.iter_modules(room.__path__):
    importlib.import_module(f"iommufd_py.results.{module.name}")
from iommufd_py.results import compare, cover_letter, document, html, report
read = document.load_result(Path(sys.argv[1]))
comparison = compare.compare(read, read)
assert report.times_table(read).rows
assert cover_letter.cover_letter([read, read], [comparison])
assert html.page([read, read], [comparison]).count("<svg") == 3
from iommufd_py.cli import main
from iommufd_py.cli.bench import history, page, plot, results
print(sorted(name for name in sys.modules if name.startswith("iommufd_py.") and name.count(".") == 1))
"""


@pytest.mark.slow
def test_the_room_needs_no_extension(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    document.save(result(), file)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['iommufd_py.base', 'iommufd_py.cli', 'iommufd_py.results']"
