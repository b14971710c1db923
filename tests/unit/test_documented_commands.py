# SPDX-License-Identifier: MIT
"""Every command line in the documentation is valid: a renamed option fails a test here."""

import ast
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from iommufd_py.cli.main import iommufd

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SCRIPTS = sorted((ROOT / "docs/how-to/ci").glob("*.sh"))
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))

# Words that can precede a command, and words that end it.
BEFORE = {"sudo", "time", "nice", "exec"}
AFTER = {"|", "||", "&&", ";", ">", "<", ">rules.xml", "2>&1"}


def logical_lines(text: str) -> Iterator[str]:
    """Yield lines, with continued lines joined."""
    yield from text.replace("\\\n", " ").splitlines()


def code_of(page: str) -> Iterator[str]:
    """Yield the lines of code blocks, fenced or indented, and pieces of code in the text that are commands."""
    fenced = False
    for line in logical_lines(page):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        else:
            yield from re.findall("`([^`]+)`", line)


def commands_of(line: str) -> Iterator[list[str]]:
    """Yield the calls of the tool in a line of shell, without the other commands."""
    line = re.sub(r"^\w+=\$\((.*)\)$", r"\1", line.removeprefix("$ "))
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return
    while words and (words[0] in BEFORE or re.fullmatch(r"[A-Z_]+=.*", words[0])):
        words = words[1:]
    if words and words[0] == "iommufd":
        end = next((number for number, word in enumerate(words) if word in AFTER or word.startswith(">")), len(words))
        yield words[1:end]


def parsed(arguments: Sequence[str]) -> Iterator[str]:
    """Parse as the tool does, without executing; yield the names of the parsed commands."""
    command: click.Command = iommufd
    context = command.make_context("iommufd", list(arguments) or ["--help"])
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        yield str(name)
        command = found
        context = command.make_context(name, list(rest), parent=context)
    # This command is run by another one, in a guest or during a trace.
    inner = context.params.get("command") or ()
    if inner and inner[0] == "iommufd":
        yield from parsed(inner[1:])


def check(arguments: Sequence[str], where: str) -> None:
    try:
        list(parsed(arguments))
    except click.exceptions.Exit:
        pass  # --help, --version
    except click.MissingParameter:
        # A sentence may name a command alone: `iommufd device bind`.
        assert not any(word.startswith("-") for word in arguments), f"{where}: iommufd {shlex.join(arguments)}"
    except click.ClickException as failure:
        pytest.fail(f"{where}: iommufd {shlex.join(arguments)}: {failure.format_message()}")


@pytest.fixture(autouse=True)
def any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept any file name: the files in the pages belong to the reader."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)


def stands_for(line: str) -> bool:
    """Return whether a line has placeholders or omissions."""
    return bool(re.search(r"\b(COMMAND|OPTIONS|SHELL|NAME|FILE|FILES|BDF|SERIES|SCENARIO|TREE|N)\b|\.\.\.|\$", line))


def filled_in(line: str) -> str:
    """Return a line with values in place of the placeholders."""
    for word, value in {"BDF": "0000:3b:00.0", "SERIES": "7.3", "NAME": "name", '"$image"': "image"}.items():
        line = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", value, line)
    return re.sub(r'"?\$\w+"?', "value", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page(page: Path) -> None:
    for line in code_of(page.read_text()):
        for arguments in commands_of(filled_in(line)):
            if not stands_for(" ".join(arguments)):
                check(arguments, page.name)


def test_pages_have_commands() -> None:
    """The parser above finds commands: a change of the pages' form must not make the tests empty."""
    found = [one for page in PAGES for line in code_of(page.read_text()) for one in commands_of(filled_in(line))]
    assert len(found) > 80
    assert {"bench", "lab", "map", "validate", "dma", "device", "info", "shell", "trace"} <= {
        one[0] for one in found if one
    }


def test_a_wrong_option_is_found() -> None:
    for line in ("iommufd map --size 2M --no-such", "sudo iommufd lab run -- iommufd map --no-such", "iommufd nothing"):
        (arguments,) = commands_of(line)
        with pytest.raises(click.UsageError):
            list(parsed(arguments))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.name))
def test_commands_of_an_example(example: Path) -> None:
    docstring = ast.get_docstring(ast.parse(example.read_text())) or ""
    found = [line for line in docstring.splitlines() if example.name in line]
    assert found, f"{example.name} does not say how to run it"
    for line in found:
        for arguments in commands_of(line.strip()):
            check(arguments, example.name)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.name))
def test_commands_of_a_ci_script(script: Path, tmp_path: Path) -> None:
    """The shell runs a program instead of the tool. It records its arguments, and the tool must accept them."""
    recorder = tmp_path / "iommufd"
    calls = tmp_path / "calls"
    recorder.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" >>{calls}\necho >>{calls}\necho image\n")
    recorder.chmod(recorder.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", script, tmp_path, "baseline.json"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    recorded = calls.read_text().splitlines()
    assert recorded
    for call in recorded:
        check(call.rstrip("\0").split("\0"), script.name)


def test_scripts_that_the_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\bscripts/([\w.]*\w)", page.read_text()):
            if not name.endswith(".pl"):  # Those commands belong to the kernel.
                assert os.access(ROOT / "scripts" / name, os.X_OK), f"{page.name} names scripts/{name}"
