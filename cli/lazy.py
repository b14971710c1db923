# SPDX-License-Identifier: MIT
"""A group of commands that are imported when they are used.

So no command, and no list of commands, imports the modules of other commands.
"""

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import click


class LazyGroup(click.Group):
    """A group with a table of its commands.

    Attributes:
        package: the package of the commands.
        table: the description of each command.
        modules: the module of each command that lies in a module of another name.
    """

    package: ClassVar[str]
    table: ClassVar[Mapping[str, str]]
    modules: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.table:
            return None
        name = cmd_name.replace("-", "_")
        module: Any = importlib.import_module(f".{self.modules.get(name, name)}", self.package)
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))
