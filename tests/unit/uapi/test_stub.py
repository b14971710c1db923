# SPDX-License-Identifier: MIT
"""The stub for type checkers agrees with the compiled extension."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_stub_is_that_of_the_extension() -> None:
    """If this fails, run: python -m cffi_build.stub > iommufd_py/_uapi.pyi"""
    stub = runpy.run_path(str(ROOT / "cffi_build" / "stub.py"))["stub"]
    assert (ROOT / "iommufd_py" / "_uapi.pyi").read_text() == stub()
