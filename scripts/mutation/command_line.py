# SPDX-License-Identifier: MIT
"""The common part of the command lines of scripts/mutants and scripts/mutate."""

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from iommufd_py.base.files import write_file


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about the results: --resume and --json."""
    parser.add_argument("--resume", action="store_true", help="keep the results of earlier runs with the same inputs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table as JSON")


def let_signals_interrupt() -> None:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt. nohup and CI systems can start a process that ignores SIGINT."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def unfinished(left: int, total: int, subjects: str) -> str:
    """Return the sentence for a run that ends early: how many results are missing, and the command that continues."""
    again = shlex.join([sys.argv[0], *(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    return f"{left} of {total} {subjects} are left; to continue, run: {again}"


def write_document(file: Path, document: dict[str, Any]) -> None:
    """Write a JSON document.

    Raises:
        ToolError: the file cannot be written.
    """
    write_file(file, json.dumps(document, indent=2).encode() + b"\n")
