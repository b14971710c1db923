# SPDX-License-Identifier: MIT
"""Corrections of the pages that sphinx-click makes: the text of ``--help``, recorded examples, and whole headings.

sphinx-click leaves out the defaults and ranges that ``--help`` shows, names an argument without a word about it, and
calls a section by the last word of the command.
"""

import click
import help_text
import reference
from docutils import nodes
from sphinx.application import Sphinx

# Sphinx reads the headings of a page for its table of contents with priority 500.
_BEFORE_THE_CONTENTS = 400


def _set_options(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    lines[:] = help_text.options(context)


def _set_description(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    lines[:] = [*help_text.description(lines), *reference.recorded_example(context.command_path)]


def _drop(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Remove the part about the arguments: the usage shows them."""
    lines.clear()


def _name_sections(app: Sphinx, document: nodes.document) -> None:
    names = {words.replace(" ", "-"): words for words in help_text.whole_commands("iommufd", reference.iommufd)}
    for section in list(document.findall(nodes.section)):
        for name in section["ids"]:
            if name in names:
                section.replace(section[0], nodes.title(names[name], names[name]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to sphinx-click, which must be loaded before."""
    app.connect("sphinx-click-process-description", _set_description)
    app.connect("sphinx-click-process-options", _set_options)
    app.connect("sphinx-click-process-arguments", _drop)
    app.connect("doctree-read", _name_sections, priority=_BEFORE_THE_CONTENTS)
    return {"parallel_read_safe": True}
