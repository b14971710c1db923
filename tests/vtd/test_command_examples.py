# SPDX-License-Identifier: MIT
"""The examples of the reference that need the lab's machine."""

from pathlib import Path

import pytest

from tests import command_examples
from tests.conftest import IN_LAB

pytestmark = [
    pytest.mark.skipif(not IN_LAB, reason="the examples take the lab's devices; run it in the lab"),
    pytest.mark.usefixtures("all_given_back"),
]


@pytest.mark.parametrize("name", command_examples.examples(command_examples.VTD))
def test_example(name: str, tmp_path: Path) -> None:
    command_examples.check_example(name, tmp_path)
