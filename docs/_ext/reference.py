# SPDX-License-Identifier: MIT
"""The pages of the reference that follow the code: a page for each command, and a page for each room of the API."""

import ast
import importlib
import inspect
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from iommufd_py.cli.main import _COMMANDS as SUMMARIES
from iommufd_py.cli.main import iommufd

from iommufd_py import api

EXAMPLES = Path(__file__).parents[2] / "cli/examples"

# Rooms of which a program uses the names from the room itself, not from iommufd_py: each with the subject of its page.
ROOMS = {
    "amd": "AMD IOMMUs",
    "dma": "DMA engines",
    "host": "this machine",
    "mock": "the rest of the mock driver",
    "pci": "PCI functions",
    "vtd": "Intel VT-d",
}

_TITLES = {
    "base": "Values and errors",
    "objects": "Objects of /dev/iommu",
    "vfio": "Objects of /dev/vfio",
    "mock": "Objects of the kernel's mock driver",
    "uapi": "Enumerations of the kernel's interface",
}


def commands() -> dict[str, click.Command]:
    """Return the commands at the top of the command line, by name."""
    context = click.Context(iommufd)
    found = {name: iommufd.get_command(context, name) for name in iommufd.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def names_by_room() -> dict[str, list[str]]:
    """Return the public names of iommufd_py by the room that defines them."""
    rooms: dict[str, list[str]] = {}
    for name in api.__all__:
        module = getattr(getattr(api, name), "__module__", "")
        rooms.setdefault(module.split(".")[1], []).append(name)
    return rooms


def write_pages(directory: Path) -> None:
    """Write the pages into *directory*, in place of those of the last build."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name in commands():
        (directory / f"command-{name}.rst").write_text(_command_page(name))
    (directory / "commands.inc").write_text("".join(_command_lines()))
    for room, names in names_by_room().items():
        intro = "Import these names from ``iommufd_py``."
        (directory / f"api-{room}.rst").write_text(_page(_TITLES[room], "iommufd_py", _documented(api, names), intro))
    for room, subject in ROOMS.items():
        module = importlib.import_module(f"iommufd_py.{room}")
        title = f"iommufd_py.{room}: {subject}"
        intro = inspect.getdoc(module) or ""
        own = [name for name in module.__all__ if name not in api.__all__]
        (directory / f"room-{room}.rst").write_text(_page(title, module.__name__, _documented(module, own), intro))


def _command_lines() -> Iterator[str]:
    """Yield a line for each command: its name, with the page behind it, and its purpose."""
    for name in commands():
        yield f":doc:`{name} <generated/command-{name}>`\n   {SUMMARIES[name]}\n\n"


def _command_page(name: str) -> str:
    module = name.replace("-", "_")
    return f".. click:: iommufd_py.cli.{module}:{module}\n   :prog: iommufd {name}\n   :nested: full\n"


def recorded_example(words: str) -> list[str]:
    """Return the recorded example of the command *words* as lines of reStructuredText, or no line if it has none."""
    recorded = EXAMPLES / f"{'-'.join(words.split()[1:])}.console"
    if not recorded.exists():
        return []
    place, *session = recorded.read_text().splitlines()
    intro = (
        f"An example with its output, on {place.removeprefix('# on: ')}. Three dots stand for text that differs "
        "between runs or machines; a test compares the rest."
    )
    return [intro, "", ".. code-block:: console", "", *(f"   {line}" for line in session), ""]


def _documented(module: Any, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            # A second entry for such an attribute would have its type and no text.
            described = ", ".join(attributes_in(inspect.getdoc(thing) or ""))
            exclude = f"   :exclude-members: {described}\n" if described else ""
            yield f".. autoclass:: {name}\n   :members:\n   :undoc-members:\n{exclude}   :show-inheritance:\n"
        elif inspect.isroutine(thing):
            yield f".. autofunction:: {name}\n"
        else:
            value = "" if isinstance(thing, tuple) else f"   :value: {thing!r}\n"
            text = "\n".join(f"   {line}" for line in _text_of_constant(module.__name__, name))
            yield f".. py:data:: {name}\n{value}\n{text}\n"


def attributes_in(docstring: str) -> list[str]:
    """Return the names in the section "Attributes" of a docstring in Google's style."""
    section = re.search(r"^Attributes:\n((?:[ \t].*\n?|\n)*)", docstring, re.MULTILINE)
    return re.findall(r"^    (\w+)(?: \(.*?\))?:", section[1], re.MULTILINE) if section else []


def _text_of_constant(package: str, name: str) -> list[str]:
    """Return the docstring below the assignment of a constant, which a room takes from one of its modules.

    autodoc would look in the room alone, and fall back to the docstring of ``int`` or ``tuple``.
    """
    for module in sorted(one for one in sys.modules if one == package or one.startswith(f"{package}.")):
        body = ast.parse(inspect.getsource(sys.modules[module])).body
        for assignment, below in pairwise(body):
            targets = (
                assignment.targets if isinstance(assignment, ast.Assign) else [getattr(assignment, "target", None)]
            )
            assigned = {one.id for target in targets if target for one in ast.walk(target) if isinstance(one, ast.Name)}
            if name in assigned and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                return inspect.cleandoc(str(below.value.value)).splitlines()
    raise LookupError(f"{package}.{name} has no docstring below its assignment")


def _page(title: str, module: str, directives: Iterable[str], intro: str = "") -> str:
    body = "\n".join(directives)
    return f"{title}\n{'=' * len(title)}\n\n{_as_rst(intro)}\n\n.. currentmodule:: {module}\n\n{body}"


def _as_rst(text: str) -> str:
    """Return a docstring whose indented blocks are code."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    ") and lines and not lines[-1].strip() and not _in_code(lines):
            lines.append("::\n")
        lines.append(line)
    return "\n".join(lines)


def _in_code(lines: list[str]) -> bool:
    for line in reversed(lines):
        if line.startswith(("    ", "::")):
            return True
        if line.strip():
            return False
    return False
