# SPDX-License-Identifier: MIT
"""The pages of the reference that follow the code: a page for each command, and a page for each room of the API."""

import importlib
import inspect
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from iommufd_py.cli.main import iommufd

from iommufd_py import api

# Rooms of which a program uses the names from the room itself, not from iommufd_py.
ROOMS = ("pci", "vtd", "host", "mock", "dma")

EXAMPLES = Path(__file__).parents[2] / "cli/examples"

_TITLES = {
    "base": "Values and errors",
    "objects": "Objects of /dev/iommu",
    "vfio": "Objects of /dev/vfio",
    "mock": "The kernel's mock driver",
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
    for room, names in names_by_room().items():
        (directory / f"api-{room}.rst").write_text(_page(_TITLES[room], "iommufd_py", _documented(api, names)))
    for room in ROOMS:
        module = importlib.import_module(f"iommufd_py.{room}")
        title = f"iommufd_py.{room}"
        intro = inspect.getdoc(module) or ""
        own = [name for name in module.__all__ if name not in api.__all__]
        (directory / f"room-{room}.rst").write_text(_page(title, module.__name__, _documented(module, own), intro))


def _command_page(name: str) -> str:
    module = name.replace("-", "_")
    click_page = f".. click:: iommufd_py.cli.{module}:{module}\n   :prog: iommufd {name}\n   :nested: full\n"
    place, _, example = (EXAMPLES / f"{name}.console").read_text().partition("\n")
    code = "".join(f"   {line}\n" if line else "\n" for line in example.splitlines())
    where = place.removeprefix("# on: ")
    intro = f"An example on {where}, with its output. Three dots stand for what differs; a test compares the rest."
    # The section below is called `iommufd NAME`.
    heading = f"{name}\n{'=' * len(name)}"
    return f"{heading}\n\n{intro}\n\n.. code-block:: console\n\n{code}\n{click_page}"


def _documented(module: Any, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            yield f".. autoclass:: {name}\n   :members:\n   :undoc-members:\n   :show-inheritance:\n"
        elif inspect.isroutine(thing):
            yield f".. autofunction:: {name}\n"
        else:
            yield f".. autodata:: {name}\n   :no-value:\n"


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
