# SPDX-License-Identifier: MIT
"""A correction of the pages with source code: links back to the reference.

viewcode takes the names of all objects of a module to be below the package of the first one. Some names of a module are
imported from ``iommufd_py``, others from its room.
"""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def mended(body: str, documented: list[str]) -> str:
    """Return a page whose links to a name that is not *documented* go to the only documented name with this end."""

    def target(link: re.Match[str]) -> str:
        name = link["name"]
        same_end = [one for one in documented if one.endswith(name.removeprefix("iommufd_py"))]
        return f"#{name if name in documented or len(same_end) != 1 else same_end[0]}"

    return re.sub(r"#(?P<name>iommufd_py\.[\w.]+)", target, body)


def _mend(app: "Sphinx", page: str, template: str, context: dict[str, Any], document: object) -> None:
    if page.startswith("_modules/") and "body" in context:
        objects = app.env.domains.python_domain.objects.items()
        context["body"] = mended(context["body"], [name for name, entry in objects if not entry.aliased])


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect to the writer of pages."""
    app.connect("html-page-context", _mend)
    return {"parallel_read_safe": True}
