# SPDX-License-Identifier: MIT
"""Find and digest the files that decide the result of a job: its tests, and the code that they import."""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

# A change in these files can change every result.
ALWAYS = (
    "pyproject.toml",
    "scripts/setup",
    "cffi_build/abi",
    "cffi_build/csrc",
    "cffi_build/build_ext.py",
    "cffi_build/build_uapi.py",
)
# pytest loads both: the plugin by its entry point, and no test imports it.
PYTEST = ("tests/conftest.py", "iommufd_py/testing/plugin.py")
# Files in a package that decide no result: its code counts if it is imported, and setup compiles the extension.
_NO_DATA = (".py", ".so", ".md")
# A test that runs the command as a program does not import it: one with the fixture `cli`, or with tests/programs.py.
_RUNS_THE_COMMAND = re.compile(r"\bcli: |^from tests\.programs import", re.MULTILINE)
# A test names files that it reads, and modules that it imports by name or in a program of its own.
_NAMED_FILES = re.compile(r"""["']((?:[\w*-]|\.\w)[\w.*-]*(?:/[\w.*-]+)*)["']""")
# A test runs the examples of the reference that belong to a place of tests/command_examples.py.
_EXAMPLES = re.compile(r"\bcommand_examples\.([A-Z]+)\b")
_NAMED_MODULES = re.compile(r"\biommufd_py(?:\.\w+)+")


def digest_inputs(
    root: Path,
    tests: Iterable[str],
    extra: Iterable[str] = (),
    always: Iterable[str] = ALWAYS,
    ignored: Iterable[str] = (),
) -> str:
    """Return a digest of *tests*, of all files that they import, and of the words in *extra*.

    Args:
        root: the checkout.
        tests: files and folders below *root*.
        extra: more words that decide the result: the command, the kernel, the version of Python.
        always: more files and folders, which every result depends on.
        ignored: files of the folders in *tests* that are no inputs.
    """
    together = hashlib.sha256()
    for word in extra:
        together.update(word.encode() + b"\0")
    for name, file in sorted((str(file), file) for file in closure(root, [*always, *tests], ignored)):
        together.update(name.removeprefix(f"{root}/").encode() + b"\0")
        together.update(_facts(root, file).digest)
    return together.hexdigest()[:20]


def closure(root: Path, seeds: Iterable[str], ignored: Iterable[str] = ()) -> set[Path]:
    """Return *seeds* without *ignored*, and every file below *root* that they import, directly or through other files.

    An import inside a function counts too. A test that starts ``iommufd`` depends on the commands that it names. A test
    depends on the files and modules that it names in a string, and on the conftest.py of its folder.
    """
    found: set[Path] = set()
    left_out = {root / name for name in ignored}
    waiting = [file for seed in seeds for file in _files(root / seed) if file not in left_out]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _facts(root, file).imports - found
    return found


class _Facts(NamedTuple):
    """The digest of a file, and the files of the checkout that it imports."""

    digest: bytes
    imports: frozenset[Path]


def _facts(root: Path, file: Path) -> _Facts:
    status = file.stat()
    return _read(root, file, status.st_mtime_ns, status.st_size)


# Jobs share most of their files. Without the cache, ./scripts/test took 40 s for the digests of all jobs.
@functools.cache
def _read(root: Path, file: Path, changed: int, size: int) -> _Facts:
    """Read a file. The time of its last change and its size are in the key, so a changed file is read again."""
    content = file.read_bytes()
    python = file.suffix == ".py" or re.match(rb"#!.*python", content)
    imports = _imported(root, file, content.decode()) if python else frozenset()
    return _Facts(hashlib.sha256(content).digest(), imports)


def _imported(root: Path, file: Path, text: str) -> frozenset[Path]:
    """Return the files of the checkout that a Python file with this text imports."""
    found: set[Path] = set()
    if file.is_relative_to(root / "tests"):
        found.update(_named(root, text))
        # The one in tests is for PYTEST, because it imports most of the package.
        conftests = (parent / "conftest.py" for parent in file.parents if parent.is_relative_to(root / "tests"))
        found.update(one for one in conftests if one.parent != root / "tests" and one.is_file())
        if file.name != "conftest.py" and _RUNS_THE_COMMAND.search(text):
            found.update(_commands(root, _strings(text)))
        for place in _EXAMPLES.findall(text):
            found.update(_examples(root, place))
    package = file.relative_to(root).parent.parts
    for level, name in _imports(text):
        base = list(package[: len(package) - level + 1]) if level else []
        found.update(_module(root, (*base, *name)))
        if name[:3] == ["iommufd_py", "cli", "main"]:
            # The group imports the module of a command when the command runs.
            found.update(_files(root / "cli"))
    return frozenset(found)


def _named(root: Path, text: str) -> Iterator[Path]:
    """Yield the modules and the files that the strings of a test name. A file is a path from *root*."""
    for name in _NAMED_MODULES.findall(text):
        yield from _module(root, tuple(name.split(".")))
    for name in _NAMED_FILES.findall(text):
        # A word alone is the name of a file, and not of a folder.
        if "/" not in name:
            yield from (one for one in (root / name,) if one.is_file())
        elif ".." not in name and (root / name.split("/")[0]).is_dir():
            for path in root.glob(name):
                yield from _files(path)


def _examples(root: Path, place: str) -> Iterator[Path]:
    """Yield the examples of the reference for *place*, and the modules of their commands."""
    words = re.search(rf'^{place} = "(.*)"$', (root / "tests/command_examples.py").read_text(), re.MULTILINE)
    if words is None:
        return  # Another name of tests/command_examples.py.
    for file in (root / "cli/examples").glob("*.console"):
        text = file.read_text()
        if text.startswith(f"# on: {words[1]}\n"):
            yield file
            yield from _commands(root, re.findall(r"^\$ (.*)", text, re.MULTILINE))


def _commands(root: Path, texts: Iterable[str]) -> Iterator[Path]:
    """Yield the modules of the commands that *texts* name, and the files that all commands need."""
    words = {word for text in texts for word in re.findall(r"[a-z]+(?:[-_][a-z]+)*", text)}
    for place in (root / "cli").iterdir():
        if place.stem in ("__init__", "start", "main", "schemas") or {place.stem, place.stem.replace("_", "-")} & words:
            yield from _files(place)


def _strings(text: str) -> Iterator[str]:
    """Yield the strings of a Python text that are no docstrings."""
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            waiting += ast.iter_child_nodes(node)


def _imports(text: str) -> list[tuple[int, list[str]]]:
    """Return the modules and names that a Python text imports, each with the level of the import.

    An import for type checkers only decides no result. The package itself imports its whole interface in that way.
    """
    found = []
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += [(0, alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            found += [(node.level, module), *((node.level, [*module, alias.name]) for alias in node.names)]
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.stmt | ast.excepthandler | ast.match_case | ast.Module):
            waiting += ast.iter_child_nodes(node)
    return found


@functools.cache
def _module(root: Path, parts: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the file of a module and of its parent packages; nothing for a module of another project."""
    if not parts or not (root / parts[0]).exists():
        return ()
    is_name = len(parts) == 2 and not parts[1].startswith("_") and not (root / "iommufd_py" / parts[1]).exists()
    if parts[0] == "iommufd_py" and is_name:
        # The public names of the package come from iommufd_py/api.py. _uapi is the extension.
        parts = ("iommufd_py", "api")
    if parts[:2] == ("iommufd_py", "cli"):
        parts = parts[1:]
    found: list[Path] = []
    for length in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:length])
        found += (one for one in (path / "__init__.py", path.with_suffix(".py")) if one.is_file())
        if length > 1 and (path / "__init__.py").is_file():
            found += _data(path)
    return tuple(found)


def _data(package: Path) -> Iterator[Path]:
    """Yield the files of a package that are not code, and all files of its folders that are not packages."""
    for path in package.iterdir():
        if path.is_file() and path.suffix not in _NO_DATA:
            yield path
        elif path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").is_file():
            yield from (one for one in _files(path) if one.suffix != ".md")


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (
            one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts and one.suffix != ".pyc"
        )
    elif path.is_file():
        yield path
    else:
        raise FileNotFoundError(f"{path} is an input of a job and does not exist")
