# SPDX-License-Identifier: MIT
"""The examples of the reference that take minutes, because they boot several guests or run the kernel's own tests."""

from pathlib import Path

import pytest

from tests import command_examples


@pytest.mark.parametrize("name", command_examples.examples(command_examples.MINUTES))
def test_example(name: str, tmp_path: Path) -> None:
    command_examples.check_example(name, tmp_path)
