# SPDX-License-Identifier: MIT
"""Every command line in a message of the tool is valid, so that a user can follow every remedy."""

import ast
import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from tests.unit.test_documented_commands import ROOT, commands_of, filled_in, parsed, stands_for

SOURCES = sorted([*(ROOT / "iommufd_py").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
_QUOTED = re.compile(r"['`](iommufd [^'`]+)['`]")


@pytest.fixture(autouse=True)
def any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept any file name: the files in the messages belong to the reader."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)


def texts_of(source: str) -> Iterator[str]:
    """Yield the string constants of a module except docstrings. In an f-string, X replaces each value."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(one.value if isinstance(one, ast.Constant) else "X" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def printed(source: str) -> list[str]:
    """Return the calls of the tool that the texts of a module quote."""
    lines = (line for text in texts_of(source) for line in _QUOTED.findall(" ".join(text.split())))
    # The values are known only when the message is printed. Most are addresses.
    return [re.sub(r"(?<!\w)X(?!\w)", "0000:3b:00.0", line) for line in lines]


def check(arguments: Sequence[str], where: str) -> None:
    """Fail if a command or an option does not exist. A message may leave out values that the reader fills in."""
    if all(word.startswith("-") for word in arguments):
        return  # The option -v works with every command.
    try:
        list(parsed(arguments))
    except (click.exceptions.Exit, click.MissingParameter):
        pass
    except click.ClickException as failure:
        text = failure.format_message()
        if "requires an argument" not in text:
            pytest.fail(f"{where}: iommufd {shlex.join(arguments)}: {text}")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_the_messages(source: Path) -> None:
    for line in printed(source.read_text()):
        for arguments in commands_of(filled_in(line)):
            if not stands_for(" ".join(arguments)):
                check(arguments, source.name)


def test_messages_have_commands() -> None:
    found = [line for source in SOURCES for line in printed(source.read_text())]
    assert len(found) > 40
    assert {"iommufd device list", "iommufd device bind 0000:3b:00.0"} <= set(found)


def test_a_wrong_command_is_found() -> None:
    (line,) = printed("""text = f"{bdf} is gone: 'iommufd device renamed {bdf}' shows it" """)
    (arguments,) = commands_of(filled_in(line))
    with pytest.raises(pytest.fail.Exception, match="No such command 'renamed'"):
        check(arguments, "here")
