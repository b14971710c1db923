# SPDX-License-Identifier: MIT
"""A function in a tree of sysfs."""

from pathlib import Path

import pytest


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "devices/pci0000:00/0000:00:03.0"
    path.mkdir(parents=True)
    return path
