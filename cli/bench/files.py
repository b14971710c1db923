# SPDX-License-Identifier: MIT
"""Parameters that name files, and tables on a page."""

import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import STDIN, STDOUT, is_regular, own_descriptor
from iommufd_py.base.shown import printable
from iommufd_py.results.tables import WIDTH, Table, fold, wrapped

from ..output import emit_table
from ..types import ParamType


class _File(ParamType[Path]):
    name = "file"

    def __init__(self, *, output: bool) -> None:
        self._output = output

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("the name of the file is empty", param, ctx)
        path = Path(str(value))
        if str(value) == "-" and not self._output:
            return STDIN
        # Path() drops a slash at the end, and a file of that name would be written.
        if self._output and (path.is_dir() or str(value).endswith("/")):
            self.fail(f"{path} is a directory: name a file", param, ctx)
        return path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class _Directory(_File):
    name = "directory"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("the name of the directory is empty", param, ctx)
        if Path(str(value)) == STDOUT:
            self.fail("standard output is not a directory: choose another name", param, ctx)
        return Path(str(value))


RESULT_FILE = _File(output=False)
OUTPUT_FILE = _File(output=True)
OUTPUT_DIRECTORY = _Directory(output=True)


def refuse_input(output: Path, inputs: Sequence[Path]) -> None:
    """Check that *output* is none of the files that the command reads: these would be lost.

    Raises:
        ToolError: it is one of them.
    """
    for one in inputs:
        with contextlib.suppress(OSError):  # Without a file there is nothing to lose.
            if is_regular(output) and output.samefile(one):
                raise ToolError(f"{output} is also an input ({one}), which would be lost: choose another output")


def refuse_second_stdin(inputs: Sequence[Path]) -> None:
    """Check that *inputs* name a descriptor, such as standard input, at most once. The second one would find nothing.

    Raises:
        click.UsageError: two are the same descriptor.
    """
    descriptors = [number for one in inputs if (number := own_descriptor(one)) is not None]
    twice = next((one for one in descriptors if descriptors.count(one) > 1), None)
    if twice is not None:
        name = f"descriptor {twice}" if twice else "standard input (-)"
        raise click.UsageError(f"{name} is given twice, and can be read only once")


def make_output_directory(path: Path) -> None:
    """Create *path* and its parents.

    Raises:
        ToolError: the directory cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise ToolError(f"the directory {path} cannot be created: {failure.strerror}; choose another") from failure


def page_width() -> int:
    """Return the width of the terminal in columns; 80 for a pipe or a file."""
    return shutil.get_terminal_size((WIDTH, 0)).columns if sys.stdout.isatty() else WIDTH


def emit_folded(table: Table) -> None:
    """Print a table, in several parts if it is wider than the page."""
    for number, part in enumerate(fold(table, page_width())):
        if number:
            click.echo()
        emit_table(part.headings, part.rows)


def emit_lines(lines: Sequence[str]) -> None:
    """Print an empty line and then the lines. Lines wider than the page are broken between words."""
    if lines:
        click.echo()
    for line in lines:
        for part in wrapped(line, page_width()):
            click.echo(printable(part))
