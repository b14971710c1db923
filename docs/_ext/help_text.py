# SPDX-License-Identifier: MIT
"""The text of ``--help`` as reStructuredText."""

import re
from collections.abc import Iterable, Iterator

import click
from iommufd_py.cli.commands import all_commands


def whole_commands(words: str, command: click.Command) -> Iterator[str]:
    """Return every command line without options, from *words* on: ``iommufd``, ``iommufd bench``, ..."""
    return (context.command_path for context in all_commands(click.Context(command, info_name=words)))


def options(context: click.Context) -> Iterator[str]:
    """Yield the options of a command, each with its default and range."""
    # The top command sets this. The context of a single command lacks it.
    context.show_default = True
    for option in context.command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record:
            names, text = record
            yield from (f".. option:: {names}", "", f"   {_literally(text)}", "")


def description(lines: Iterable[str]) -> Iterator[str]:
    """Yield a help text as sphinx-click prepares it; the command lines below "Examples:" become a block of code."""
    in_code = False
    for line in lines:
        if not line.startswith("| "):
            in_code = False
            yield _literally(line)
        elif in_code:
            yield f"   {line.removeprefix('| ').strip()}"
        else:
            in_code = True
            yield from (line.removeprefix("| "), "", ".. code-block:: sh", "")


def _literally(text: str) -> str:
    """Return a help text as reStructuredText: a star is a star, and an option or a word between backticks is code."""
    if text.startswith(".. "):
        return text
    pieces = re.split(r"`([^`]+)`", text.replace("*", r"\*"))
    # Without this a browser breaks a line inside an option, after its hyphens.
    pieces[::2] = (re.sub(r"(?<![\w-])(--[a-z][a-z0-9-]*[a-z0-9])", r"``\1``", prose) for prose in pieces[::2])
    pieces[1::2] = (f"``{code}``" for code in pieces[1::2])
    return "".join(pieces)
