# SPDX-License-Identifier: MIT
"""Find the files that decide the result of a job, which are its tests and the code that they import, and digest
them."""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

# A change in these files can change every result.
ALWAYS = ("pyproject.toml", "scripts/setup", "tests/conftest.py", "cffi_build")
# A test that contains this text runs the command as a program, so its imports do not show the dependency.
_COMMAND = '"iommufd"'


def digest_inputs(root: Path, tests: Iterable[str], extra: Iterable[str] = (), always: Iterable[str] = ALWAYS) -> str:
    """Return a digest of *tests*, of all files that they import, and of the words in *extra*.

    Args:
        root: the checkout.
        tests: files and folders below *root*.
        extra: more words that decide the result: the command, the kernel, the version of Python.
        always: more files and folders, which every result depends on.
    """
    together = hashlib.sha256()
    for word in extra:
        together.update(word.encode() + b"\0")
    for file in sorted(closure(root, [*always, *tests])):
        together.update(str(file.relative_to(root)).encode() + b"\0")
        together.update(hashlib.sha256(file.read_bytes()).digest())
    return together.hexdigest()[:20]


def closure(root: Path, seeds: Iterable[str]) -> set[Path]:
    """Return *seeds* and every file below *root* that they import, directly or through other files.

    An import inside a function counts too. A test that starts the ``iommufd`` command depends on the whole command
    line.
    """
    found: set[Path] = set()
    waiting = [file for seed in seeds for file in _files(root / seed)]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        if file.suffix == ".py":
            waiting += imported(root, file, file.read_text(encoding="utf-8"))
    return found


# Jobs share most of their files. Without the cache, ./scripts/test took 40 s for the digests of all jobs.
@functools.cache
def imported(root: Path, file: Path, text: str) -> frozenset[Path]:
    """Return the files of the checkout that a Python file with this text imports."""
    found = set(_files(root / "cli")) if file.is_relative_to(root / "tests") and _COMMAND in text else set()
    package = file.relative_to(root).parent.parts
    for level, name in _imports(text):
        base = list(package[: len(package) - level + 1]) if level else []
        found.update(_module(root, [*base, *name]))
    return frozenset(found)


def _imports(text: str) -> list[tuple[int, list[str]]]:
    """Return the modules and names that a Python text imports, each with the level of the import."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            found += [(node.level, module), *((node.level, [*module, alias.name]) for alias in node.names)]
    return found


def _module(root: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the file of a module and of its parent packages; nothing for a module of another project."""
    if parts[:1] == ["iommufd_py"] and len(parts) == 2 and not (root / "iommufd_py" / parts[1]).exists():
        # The public names of the package come from iommufd_py/api.py.
        parts = ["iommufd_py", "api"]
    if parts[:2] == ["iommufd_py", "cli"]:
        parts = parts[1:]
    for length in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:length])
        yield from (one for one in (path / "__init__.py", path.with_suffix(".py")) if one.is_file())
        # The data files of a package decide the result like its code.
        if length == len(parts) and (path / "__init__.py").is_file():
            yield from (one for one in path.rglob("*") if one.is_file() and one.suffix in (".json", ".config", ".h"))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (
            one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts and one.suffix != ".pyc"
        )
    elif path.is_file():
        yield path
    else:
        raise FileNotFoundError(f"{path} is an input of a job and does not exist")
