# SPDX-License-Identifier: MIT
"""Directives that show the code as it is: ``house``, ``examples``, ``schemas``; and the generated pages."""

import ast
import json
from pathlib import Path
from typing import Any

import house
import reference
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


class House(SphinxDirective):
    """Puts the picture of the rooms into a page."""

    def run(self) -> list[nodes.Node]:
        """Return the picture as raw HTML."""
        self.env.note_reread()
        return [nodes.raw("", f'<figure class="house">{house.picture(house.floors())}</figure>', format="html")]


class Examples(SphinxDirective):
    """A section for each program of docs/examples."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        self.env.note_reread()
        sections: list[nodes.Node] = []
        for path in sorted((ROOT / "docs/examples").glob("*.py")):
            source = path.read_text()
            purpose = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
            section = nodes.section(ids=[nodes.make_id(path.stem)], names=[path.name])
            section += nodes.title(text=path.name)
            section += nodes.paragraph(text=purpose)
            section += nodes.literal_block(source, source, language="python")
            sections.append(section)
        return sections


class Schemas(SphinxDirective):
    """A line for each JSON Schema of the package: its file, its fields at the top."""

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        self.env.note_reread()
        entries = nodes.bullet_list()
        for path in sorted(path for place in ("iommufd_py", "cli") for path in (ROOT / place).rglob("*.json")):
            schema = json.loads(path.read_text())
            if "$schema" not in schema:
                continue
            paragraph = nodes.paragraph()
            paragraph += nodes.literal(text=str(path.relative_to(ROOT)))
            for number, field in enumerate(schema.get("properties", ())):
                paragraph += nodes.Text(", " if number else ": ")
                paragraph += nodes.literal(text=field)
            entries += nodes.list_item("", paragraph)
        return [entries]


def _escape_stars(app: Sphinx, context: Any, lines: list[str]) -> None:
    """A help text is no reStructuredText: a star in it is a star."""
    lines[:] = [line if line.startswith((".. ", "   :")) else line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, and write the generated pages before Sphinx looks for sources."""
    app.add_directive("house", House)
    app.add_directive("examples", Examples)
    app.add_directive("schemas", Schemas)
    app.connect("config-inited", lambda app, _: reference.write_pages(Path(app.srcdir) / "reference" / "generated"))
    # These directives belong to sphinx_click, which must be loaded before.
    app.connect("sphinx-click-process-options", _escape_stars)
    app.connect("sphinx-click-process-description", _escape_stars)
    return {"parallel_read_safe": True}
