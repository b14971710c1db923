# SPDX-License-Identifier: MIT
"""Parameters that name files and directories."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import STDIN, STDOUT, is_regular, own_descriptor
from iommufd_py.base.shown import shown

from .types import ParamType


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
        if path == STDOUT and str(value) != "-":
            return path.absolute()  # A file with the name ./-
        return path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class Directory(click.Path):
    """A directory. click itself only refuses regular files, and accepts a device, a pipe or ``-``."""

    def __init__(self, *, exists: bool = False) -> None:
        super().__init__(exists=exists, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the name."""
        if not os.fspath(value):
            self.fail("the name of the directory is empty", param, ctx)
        if os.fspath(value) == "-":
            self.fail("- is not a directory: choose another name", param, ctx)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.exists() and not path.is_dir():
            self.fail(f"{shown(str(path))} is not a directory", param, ctx)
        return path


RESULT_FILE = _File(output=False)
OUTPUT_FILE = _File(output=True)


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
