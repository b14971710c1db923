# SPDX-License-Identifier: MIT
"""The decorators of all commands. A command accepts an option with a value only once."""

from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Any

import click

from .types import Values

_Function = Callable[..., Any]
# More characters than any first sentence of a command has.
_NO_LIMIT = 1000


class Command(click.Command):
    """A command that refuses an option with two values. click itself silently uses the last value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, and refuse an option that is given more than once."""
        typed = list(args)
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:  # A shell can complete a line that is not valid yet.
            _, _, order = self.make_parser(ctx).parse_args(typed)
            _refuse_repeated(order)
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the manual page."""
        _write_page_name(ctx, formatter)


class Group(click.Group):
    """A group whose commands are of the class above."""

    command_class = Command
    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each command. click itself cuts it off at the end of the line."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_NO_LIMIT)) for name, one in commands.items() if one])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the manual page."""
        _write_page_name(ctx, formatter)


def command(name: str | None = None, **settings: Any) -> Callable[[_Function], Command]:
    """Make a function a command, as click.command() does."""
    return click.command(name, cls=Command, **settings)


def group(name: str | None = None, **settings: Any) -> Callable[[_Function], Group]:
    """Make a function a group of commands, as click.group() does."""
    return click.group(name, cls=Group, **settings)


def all_commands(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of a command, then those of all commands below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            below = context.command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from all_commands(click.Context(below, info_name=name, parent=context))


def command_name(context: click.Context) -> str:
    """Return the words of a command below the program, with hyphens between them: ``bench-run``."""
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, context.info_name or "")
        context = context.parent
    return "-".join(words)


def recorded_examples(context: click.Context) -> list[str]:
    """Return the recorded examples of a command and of the commands below it.

    The first line of an example names the machine that it needs. A terminal session follows.
    """
    name = command_name(context)
    files = resources.files(__package__).joinpath("examples").iterdir()
    # By the names of the files: the commands below a group are imported only when they are used.
    own = {file.name: file for file in files if file.name.startswith((f"{name}.", f"{name}-"))}
    return [own[file].read_text() for file in sorted(own)]


def _write_page_name(context: click.Context, formatter: click.HelpFormatter) -> None:
    formatter.write_paragraph()
    formatter.write_text(f"For an example with its output, see: man iommufd-{command_name(context)}")


def _refuse_repeated(order: Sequence[click.Parameter]) -> None:
    for parameter in order:
        if isinstance(parameter, click.Option) and _takes_one_value(parameter) and order.count(parameter) > 1:
            name = "/".join((*parameter.opts[-1:], *parameter.secondary_opts))
            remedy = "give all values in one list, with commas" if isinstance(parameter.type, Values) else "give one"
            raise click.UsageError(f"{name} is given more than once: {remedy}")


def _takes_one_value(option: click.Option) -> bool:
    """Return whether a second value would replace the first. A flag without an opposite has one value only."""
    return not option.multiple and not option.count and (not option.is_flag or bool(option.secondary_opts))
