# SPDX-License-Identifier: MIT
"""One name stands for one thing: the rule of docs/architecture.md, "Names"."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("iommufd_py", "cli", "scripts", "tests", "docs")

# Each name that may stand in several modules, with the reason.
EXCEPTIONS = {
    "main": "Python's word for the entry of a program",
    "setup": "Sphinx calls the function of this name of each extension",
    "after_unmap": "the output of `iommufd dma check` shows it",
    "ioas_copy": "the output of `iommufd dma check` shows it, and uapi names its functions after the ioctls",
}


@dataclass(frozen=True)
class Definition:
    """A class or function of a module."""

    module: str
    name: str
    is_command: bool


def python_files() -> Iterator[Path]:
    """Yield the modules and the Python scripts of the tree."""
    for folder in FOLDERS:
        yield from (ROOT / folder).rglob("*.py")
    for script in (ROOT / "scripts").iterdir():
        if script.is_file() and script.read_bytes().partition(b"\n")[0].endswith(b"python3"):
            yield script


def definitions(path: Path) -> Iterator[Definition]:
    """Yield what other modules may import from *path*. Of a module of tests only the classes count."""
    is_test = path.name == "conftest.py" or path.name.startswith("test_")
    for node in ast.parse(path.read_bytes()).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef) or not is_test:
            calls = {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
            if "pytest.fixture" in calls:  # pytest finds fixtures by name, and one may replace another
                continue
            is_command = any(call.rpartition(".")[2] in ("command", "group") for call in calls)
            yield Definition(str(path.relative_to(ROOT)), node.name, is_command)


@cache
def all_definitions() -> list[Definition]:
    """Return the definitions of the whole tree, whose files take seconds to parse."""
    return [one for path in python_files() for one in definitions(path)]


@pytest.mark.slow
def test_each_name_stands_for_one_thing() -> None:
    modules = defaultdict(set)
    for one in all_definitions():
        if not one.is_command:
            modules[one.name].add(one.module)
    assert len(modules) > 1000, "the search misses most of the tree"
    shared = {name: sorted(where) for name, where in modules.items() if len(where) > 1}
    assert {name: where for name, where in shared.items() if name not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() <= shared.keys(), "remove the exceptions that no longer occur"


def test_a_module_of_tests_sets_its_marks_once() -> None:
    """A second assignment would drop the marks of the first without a message."""
    marks = {
        str(path.relative_to(ROOT)): len(re.findall(r"^pytestmark\b", path.read_text(), re.MULTILINE))
        for path in (ROOT / "tests").rglob("*.py")
    }
    assert sum(marks.values()) > 10, "the search misses most of the tree"
    assert [name for name, count in marks.items() if count > 1] == []


def test_the_room_of_the_lab_describes_each_of_its_modules() -> None:
    room = ROOT / "iommufd_py/lab"
    described = re.findall(r"``(\w+)``", ast.get_docstring(ast.parse((room / "__init__.py").read_bytes())) or "")
    modules = {path.stem for path in room.glob("*.py")} | {path.parent.name for path in room.glob("*/__init__.py")}
    assert sorted(described) == sorted(modules - {"__init__"})


@pytest.mark.slow
def test_a_command_shares_its_name_only_with_the_function_that_it_calls() -> None:
    functions = {one.name: one.module for one in all_definitions() if not one.is_command}
    for command in all_definitions():
        if command.is_command and command.name in functions:
            module = functions[command.name].removesuffix(".py").replace("/", ".")
            imported = {
                f"{node.module}.{alias.name}"
                for node in ast.walk(ast.parse((ROOT / command.module).read_bytes()))
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            package = module.rpartition(".")[0]
            assert {package, module, f"{module}.{command.name}"} & imported, f"{command.name}: {module} has it, too"
