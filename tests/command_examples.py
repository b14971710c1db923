# SPDX-License-Identifier: MIT
"""Run the examples of the reference and the man pages, and compare the output of each command.

In an output, three dots stand for any text, as in a doctest.
"""

import doctest
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.programs import SEARCH_PATH
from tests.waiting import patience

DIRECTORY = Path(__file__).parent.parent / "cli/examples"

ANYWHERE = "any machine"
NATIVE = "patched User-Mode Linux"
LAB = "any machine with the lab's kernels"
MINUTES = "any machine with the lab's kernels, in some minutes"
VTD = "the lab's machine with an emulated VT-d"
INCOHERENT = "the lab's machine whose DMA does not snoop, with the stock kernel"
FLEET = "a machine whose labgrid lends two others"
PLACES = (ANYWHERE, NATIVE, LAB, MINUTES, VTD, INCOHERENT, FLEET)


def place_of(path: Path) -> str:
    """Return the place where the example of *path* runs."""
    return path.read_text().partition("\n")[0].removeprefix("# on: ")


def examples(place: str) -> list[str]:
    """Return the commands whose example runs at *place*."""
    return sorted(path.stem for path in DIRECTORY.glob("*.console") if place_of(path) == place)


def example_steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command line of an example with its expected output."""
    for block in text.split("\n$ ")[1:]:
        command, _, output = block.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command += f"\n{more}"
        yield command, output


def check_example(name: str, directory: Path) -> None:
    """Run the example of the command *name* in *directory*, and compare its output with the expected one."""
    environment = {**os.environ, "PATH": SEARCH_PATH, "COLUMNS": "120"}
    checker = doctest.OutputChecker()
    for command, promised in example_steps((DIRECTORY / f"{name}.console").read_text()):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience(300),
            check=False,
        )
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert checker.check_output(promised, done.stdout, options), f"$ {command}\n{done.stdout}"
