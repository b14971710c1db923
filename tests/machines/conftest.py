# SPDX-License-Identifier: MIT
"""Tests for one machine of the lab each; tests/lab/test_lab_machines.py boots it and runs its file there."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is for another machine than this."""
    here = os.environ.get("IOMMUFD_TEST_MACHINE", "")
    for item in items:
        if item.path.parent.name == "machines" and item.path.stem != f"test_{here}":
            item.add_marker(
                pytest.mark.skip(reason="for one machine of the lab: pytest tests/lab/test_lab_machines.py")
            )
