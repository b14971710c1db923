# SPDX-License-Identifier: MIT
"""The example in README is the test that runs."""

import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_example_that_runs() -> None:
    example = (ROOT / "tests/examples/test_new_hardware.py").read_text().split("\n", 1)[1]
    assert textwrap.indent(example, "    ") in (ROOT / "README.md").read_text()
