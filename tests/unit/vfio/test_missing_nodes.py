# SPDX-License-Identifier: MIT
"""Nodes of /dev that are missing, or that are other files."""

import os
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.vfio import group, ioas_container


def test_another_file_in_place_of_the_iommufd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container can hide /dev/iommu behind /dev/null."""
    monkeypatch.setattr(ioas_container, "DEV_IOMMU", Path(os.devnull))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ToolError, match="is not an iommufd"):
        ioas_container.IoasContainer("0000:3b:00.0")
    assert os.listdir("/proc/self/fd") == before


def test_group_that_became_viable_in_between() -> None:
    assert "try again" in group._held_by_others(1 << 30)
