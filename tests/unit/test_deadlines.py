# SPDX-License-Identifier: MIT
"""Each deadline of a test can be made longer on a slow machine, by one variable."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]


def fixed_deadlines(text: str) -> Iterator[tuple[int, float]]:
    """Yield the line and the seconds of each deadline of a second or more that is a number."""
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        given = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("wait", "join", "communicate"):
            given += call.args
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value >= 1:
                yield value.lineno, value.value


def test_every_deadline_scales() -> None:
    assert list(fixed_deadlines("run(timeout=2)\nchild.wait(60)\nwait(timeout=patience(2))")) == [(1, 2), (2, 60)]
    fixed = [(file.name, *one) for file in TESTS.rglob("*.py") for one in fixed_deadlines(file.read_text())]
    assert fixed == [], "write patience(seconds), from tests/waiting.py"
