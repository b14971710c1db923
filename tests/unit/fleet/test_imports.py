# SPDX-License-Identifier: MIT
"""Only the commands that need the packages of the extra 'fleet' import them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.fleet.recorded import step, validation, write_machine
from tests.unit.fleet.test_plan import SMALL

CLI = Path(__file__).parents[3] / "cli"
COMMANDS = sorted(one.stem for one in CLI.glob("*.py") if one.stem != "__init__")


@pytest.mark.slow
@pytest.mark.parametrize(
    "modules",
    [
        ["iommufd_py", *(f"iommufd_py.cli.{name}" for name in COMMANDS if name != "start")],
        # A report needs no coordinator.
        ["iommufd_py.fleet.verdict", "iommufd_py.fleet.formats", "iommufd_py.fleet.kcidb"],
    ],
)
def test_nothing_else_imports_labgrid(modules: list[str]) -> None:
    program = f"import {', '.join(modules)}, sys\nprint({{'labgrid', 'grpc', 'statsmodels'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "extra", "command"),
    [
        ("labgrid", "fleet", ("fleet", "run", "plan.toml", "-o", "out")),
        ("kcidb_io", "fleet", ("fleet", "report", ".", "--format", "kcidb")),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, package: str, extra: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "plan.toml").write_text(SMALL)
    write_machine(tmp_path, "a", [(step("installed", "validate"), validation())])
    program = f"import sys; sys.modules[{package!r}] = None; from iommufd_py.cli.start import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"iommufd: error: this command needs {package}, which is not installed: run pip install 'iommufd-py[{extra}]'\n"
    )
