# SPDX-License-Identifier: MIT
"""The start of the command line: `--help` imports no module of a command, and lists every command."""

import subprocess
import sys
from collections.abc import Callable

from tests.programs import IOMMUFD

Cli = Callable[..., subprocess.CompletedProcess[str]]

# The smallest program with the library of the command line.
_SMALLEST = "import click; click.Group('x', commands={'y': click.Command('y')})(prog_name='x')"


def modules_of(*command: str) -> set[str]:
    """Return the names of all modules that Python imports for `COMMAND --help`."""
    run = [sys.executable, "-X", "importtime", *command, "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_help_imports_no_module_of_a_command() -> None:
    """Imports are the time of a start: a list of commands may cost little more than click itself."""
    more = modules_of(IOMMUFD) - modules_of("-c", _SMALLEST)
    ours = {name for name in more if name.split(".")[0] == "iommufd_py"}
    assert ours == {
        "iommufd_py",
        "iommufd_py.base",
        "iommufd_py.base.errors",
        "iommufd_py.base.meanings",
        "iommufd_py.base.shown",
        "iommufd_py.base.signals",
        "iommufd_py.cli",
        "iommufd_py.cli.exit_status",
        "iommufd_py.cli.lazy",
        "iommufd_py.cli.main",
        "iommufd_py.cli.output",
        "iommufd_py.cli.start",
    }
    # json, traceback and signal with their parts, which differ among the versions of Python.
    assert len(more - ours) < 20, sorted(more - ours)


def test_help_lists_every_command(cli: Cli) -> None:
    out = cli("--help").stdout
    for command in ("info", "device", "map", "shell", "trace", "bench", "lab"):
        assert f"\n  {command} " in out
        assert cli(command, "--help").returncode == 0
