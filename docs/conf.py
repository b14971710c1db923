# SPDX-License-Identifier: MIT
"""Configuration of Sphinx. Build with scripts/docs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from iommufd_py.base.version import tool_version

project = "iommufd-py"
author = "the iommufd-py maintainers"
copyright = "the iommufd-py maintainers; MIT"
release = tool_version()

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "directives",
    "docstrings",
    "command_pages",
    "source_pages",
]
# A double hyphen is an option.
smartquotes = False
exclude_patterns = ["_build"]
# `type[...]` in an annotation is Python's, not one of the attributes called `type`.
suppress_warnings = ["ref.python"]

# A heading is a target: page.md#heading.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "fieldlist"]

# Attributes in a class's docstring and the attributes of the class are one thing, and stand in the order of the source.
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_display_short_literal_types = True

html_theme = "furo"
html_title = "iommufd-py"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
