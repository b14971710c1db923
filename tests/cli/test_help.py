# SPDX-License-Identifier: MIT
"""The help of each command is readable on a terminal of 80 columns."""

import click
import pytest
from click.testing import CliRunner
from iommufd_py.cli.commands import all_commands
from iommufd_py.cli.main import iommufd

CONTEXTS = list(all_commands(click.Context(iommufd, info_name="iommufd")))
GROUPS = [one for one in CONTEXTS if isinstance(one.command, click.Group)]


def help_of(context: click.Context) -> list[str]:
    words = context.command_path.split()[1:]
    done = CliRunner(env={"COLUMNS": "80"}).invoke(iommufd, [*words, "--help"], prog_name="iommufd")
    assert done.exit_code == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.command_path)
def test_no_line_is_too_long(context: click.Context) -> None:
    assert [line for line in help_of(context) if len(line) > 80] == []


@pytest.mark.parametrize("context", GROUPS, ids=lambda context: context.command_path)
def test_the_sentence_of_each_command_is_whole(context: click.Context) -> None:
    lines = help_of(context)
    commands = lines[lines.index("Commands:") + 1 :]
    assert len(commands) > len(context.command.list_commands(context))
    assert [line for line in commands if line.endswith("...")] == []
