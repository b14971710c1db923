# SPDX-License-Identifier: MIT
"""The parts that every run of a guest has."""

from importlib.util import cache_from_source
from pathlib import Path

import pytest

from iommufd_py.lab import runs


def test_a_guest_finds_compiled_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Python writes none itself: each start in an emulated guest would compile them all."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    compiled = Path(cache_from_source(str(runs.__file__)))
    compiled.unlink(missing_ok=True)
    runs.compile_package()
    assert compiled.exists()
