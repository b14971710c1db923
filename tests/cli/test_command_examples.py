# SPDX-License-Identifier: MIT
"""The examples of the reference that any machine can run. Every command must have an example."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from iommufd_py.cli.commands import all_commands, command_name
from iommufd_py.cli.main import iommufd

from tests import command_examples
from tests.command_examples import ANYWHERE, DIRECTORY, PLACES, examples

Cli = Callable[..., subprocess.CompletedProcess[str]]

# Each command that is no group, as `bench-run`, with its words.
COMMANDS = {
    command_name(context): context.command_path.split()[1:]
    for context in all_commands(click.Context(iommufd, info_name="iommufd"))
    if not isinstance(context.command, click.Group)
}


@pytest.mark.parametrize("name", examples(ANYWHERE))
def test_example(name: str, tmp_path: Path) -> None:
    command_examples.check_example(name, tmp_path)


def test_every_command_has_an_example() -> None:
    recorded = {path.stem for path in DIRECTORY.glob("*.console")}
    assert recorded == set(COMMANDS)
    assert sorted(name for place in PLACES for name in examples(place)) == sorted(recorded)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_page(name: str) -> None:
    done = CliRunner().invoke(iommufd, [*COMMANDS[name], "--help"], prog_name="iommufd")
    assert done.stdout.endswith(f"For an example with its output, see: man iommufd-{name}\n")


def test_help_of_a_group_names_the_page(cli: Cli) -> None:
    last = "For an example with its output, see: man iommufd-lab-kernel\n"
    assert cli("lab", "kernel", "--help").stdout.endswith(last)


def test_a_wrong_output_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lie.console").write_text("# on: any machine\n$ echo one; echo two\none ...\n$ echo three\nfour\n")
    monkeypatch.setattr(command_examples, "DIRECTORY", tmp_path)
    with pytest.raises(AssertionError, match="echo three"):
        command_examples.check_example("lie", tmp_path)


def test_a_command_continues_on_the_next_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "long.console").write_text(
        "# on: any machine\n$ echo one \\\n    two; \\\n    echo three\none two\nthree\n"
    )
    monkeypatch.setattr(command_examples, "DIRECTORY", tmp_path)
    command_examples.check_example("long", tmp_path)
