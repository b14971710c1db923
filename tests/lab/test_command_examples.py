# SPDX-License-Identifier: MIT
"""The examples of the reference that start a guest."""

from pathlib import Path

import pytest

from tests import command_examples

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", command_examples.examples(command_examples.LAB))
def test_example(name: str) -> None:
    command_examples.check_example(name, ROOT)
