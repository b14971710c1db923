# SPDX-License-Identifier: MIT
"""The types that a type checker sees are those of the compiled extension."""

from pathlib import Path

from cffi_build.stub import stub

PACKAGE = Path(__file__).parents[3] / "iommufd_py"


def test_the_stub_is_that_of_the_extension() -> None:
    """If this fails: python -m cffi_build.stub > iommufd_py/_uapi.pyi."""
    assert (PACKAGE / "_uapi.pyi").read_text() == stub()
