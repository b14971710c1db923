# SPDX-License-Identifier: MIT
"""Print two documents of `iommufd dma coherency --json` side by side: the stock and the patched kernel."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from iommufd_py.base.coherency import FLUSH_RULES
from iommufd_py.dma.coherency.readings import Piece, in_words

_SHOWN_CASES = (
    "fill before map",
    "fresh page",
    "after unmap",
    "next owner",
    "attach to populated",
    "half attached later",
)


def shown_reading(case: dict[str, Any]) -> str:
    """Return the first wrong reading of a case as text, or the last reading if all are right."""
    readings = [reading for reading in case["readings"] if not reading["right"]] or case["readings"][-1:]
    if not readings:
        return str(case["remark"])
    words = in_words([Piece(**piece) for piece in readings[0]["found"]])
    return f"{readings[0]['by']} reads {words}"


def main() -> None:
    """Print the table."""
    stock, patched = (
        {case["name"]: case for case in json.loads(Path(name).read_text())["cases"]} for name in sys.argv[1:3]
    )
    table = Table("case", "stock kernel", "patched kernel")
    for name in _SHOWN_CASES:
        cells = []
        for case in (stock[name], patched[name]):
            color = {"wrong": "red", "right": "green"}.get(case["verdict"], "yellow")
            shown = "WRONG" if case["verdict"] == "wrong" else case["verdict"]
            cells.append(f"[{color}]{shown}[/]: {shown_reading(case)}")
        table.add_row(name, *cells)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for number, rule in FLUSH_RULES.items():
        broken = sum(
            any(one["rule"] == number and not one["right"] for one in case["readings"]) for case in stock.values()
        )
        console.print(f"rule {number}, {rule}: {broken} cases are wrong on the stock kernel")


if __name__ == "__main__":
    main()
