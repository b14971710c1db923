# SPDX-License-Identifier: MIT
"""Print what `iommufd dma coherency --json` found on two kernels, side by side."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from iommufd_py.dma.coherency import RULES, Piece, in_words

SIX = (
    "fill before map",
    "fresh page",
    "after unmap",
    "next owner",
    "attach to populated",
    "half attached later",
)


def seen(story: dict[str, Any]) -> str:
    """Return in words what was read, where it was wrong or else at the end."""
    looks = [look for look in story["looks"] if not look["right"]] or story["looks"][-1:]
    if not looks:
        return str(story["remark"])
    words = in_words([Piece(**piece) for piece in looks[0]["found"]])
    return f"{looks[0]['by']} reads {words}"


def main() -> None:
    """Print the table."""
    stock, patched = (
        {story["story"]: story for story in json.loads(Path(name).read_text())["stories"]} for name in sys.argv[1:3]
    )
    table = Table("story", "stock kernel", "patched kernel")
    for name in SIX:
        cells = []
        for story in (stock[name], patched[name]):
            color = {"wrong": "red", "right": "green"}.get(story["verdict"], "yellow")
            shown = "WRONG" if story["verdict"] == "wrong" else story["verdict"]
            cells.append(f"[{color}]{shown}[/]: {seen(story)}")
        table.add_row(name, *cells)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for number, rule in RULES.items():
        broken = sum(story["rule"] == number and story["verdict"] == "wrong" for story in stock.values())
        console.print(f"rule {number}, {rule}: {broken} stories go wrong on the stock kernel")


if __name__ == "__main__":
    main()
