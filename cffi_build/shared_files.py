# SPDX-License-Identifier: MIT
"""Write the man pages and the completion scripts of ``iommufd``: ``python shared_files.py VERSION DIRECTORY``.

The files are generated from the command line, which must be importable. DIRECTORY gets the layout of ``/usr``.
click-man formats the pages; this module adds the arguments, the examples and the help of command groups, which
click-man leaves out.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class
from click_man.man import ManPage
from iommufd_py.cli.commands import all_commands, recorded_examples

PROGRAM = "iommufd"

# The path in which each shell looks for completions from packages.
COMPLETIONS = {
    "bash": "share/bash-completion/completions/iommufd",
    "zsh": "share/zsh/site-functions/_iommufd",
    "fish": "share/fish/vendor_completions.d/iommufd.fish",
}
MAN = "share/man/man1"

# click prints a block of a help text unchanged if it starts with this character.
_VERBATIM = "\b"


def write_shared_files(program: click.Group, version: str, directory: Path) -> list[Path]:
    """Write all files for *program* below *directory* and return their paths."""
    written = []
    for context in all_commands(click.Context(program, info_name=PROGRAM, **program.context_settings)):
        path = directory / MAN / f"{context.command_path.replace(' ', '-')}.1"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(man_page(context, version))
        written.append(path)
    for shell, place in COMPLETIONS.items():
        shell_class = get_completion_class(shell)
        assert shell_class is not None  # click supports these three shells.
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shell_class(program, {}, PROGRAM, "_IOMMUFD_COMPLETE").source())
        written.append(path)
    return written


def man_page(context: click.Context, version: str) -> str:
    """Return the page of the command of *context*."""
    command = context.command
    page = ManPage(context.command_path)
    page.command = context.command_path.replace(" ", "-")
    page.version = f"iommufd-py {version}"
    page.short_help = _escape(_first_paragraph(command).rstrip("."))
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.description = "\n".join([*_blocks(inspect.cleandoc(command.help or "")), *_example(context)])
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    records = filter(None, (option.get_help_record(context) for option in options))
    page.options = [(names, _escape(text)) for names, text in records]
    if isinstance(command, click.Group):
        below = [(one.info_name, one.command) for one in all_commands(context) if one.parent is context]
        page.commands = [(name, _escape(_first_paragraph(command))) for name, command in below]
    # click-man ends the synopsis with the words of the command; there its name has spaces.
    return str(page).replace(f"\n.B {page.command}\n", f"\n.B {context.command_path}\n")


def _first_paragraph(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")


def _blocks(text: str) -> Iterator[str]:
    """Convert a help text to roff: paragraphs, and a section with the examples."""
    for number, block in enumerate(re.split(r"\n\n+", text)):
        if not block.startswith(_VERBATIM):
            yield f".PP\n{_escape(block)}" if number else _escape(block)
            continue
        heading, *lines = block.removeprefix(_VERBATIM).strip("\n").splitlines()
        if heading.rstrip(":") == "Examples":
            yield ".SH EXAMPLES"
        else:
            yield ".PP"
            lines.insert(0, heading)
        yield "\n".join([".nf", *map(_escape, lines), ".fi"])


def _example(context: click.Context) -> Iterator[str]:
    """Convert the recorded examples of a command to roff, each with its output. A group has those of its commands."""
    if context.parent is None:
        return
    examples = recorded_examples(context)
    yield ".SH AN EXAMPLE AND ITS OUTPUT" if len(examples) == 1 else ".SH EXAMPLES AND THEIR OUTPUT"
    for example in examples:
        where, _, text = example.partition("\n")
        yield ".PP"
        yield _escape(f"On {where.removeprefix('# on: ')}; three dots stand for text that differs between machines.")
        yield "\n".join([".PP", ".nf", _escape(text.rstrip()), ".fi"])


def _escape(text: str) -> str:
    """Escape *text* so that roff prints it unchanged: no line is a request, and a hyphen is an ASCII hyphen."""
    plain = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", plain, flags=re.MULTILINE)


if __name__ == "__main__":
    from iommufd_py.cli.main import iommufd

    write_shared_files(iommufd, sys.argv[1], Path(sys.argv[2]))
