# SPDX-License-Identifier: MIT
"""Correct the text that napoleon generates from docstrings."""

from typing import Any

from sphinx.application import Sphinx

_BEFORE_NAPOLEON = 400


def _keep_the_colon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put an empty comment before the text of an attribute: else napoleon takes the words before a colon for a type."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to autodoc, which must be loaded before."""
    app.connect("autodoc-process-docstring", _keep_the_colon, priority=_BEFORE_NAPOLEON)
    return {"parallel_read_safe": True}
