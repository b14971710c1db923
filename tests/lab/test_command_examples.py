# SPDX-License-Identifier: MIT
"""The examples of the reference that start a guest."""

from pathlib import Path

import pytest

from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.progress import Silent
from tests import command_examples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def emulator() -> None:
    """Build the emulator before the examples, which show the output of a machine that has it."""
    build_emulator(Silent())


@pytest.mark.parametrize("name", command_examples.examples(command_examples.LAB))
def test_example(name: str) -> None:
    command_examples.check_example(name, ROOT)
