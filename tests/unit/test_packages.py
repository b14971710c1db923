# SPDX-License-Identifier: MIT
"""The list of packages in pyproject.toml, which decides what an installation contains."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_installation_contains_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    ours = [path.parent.relative_to(ROOT) for path in (ROOT / "iommufd_py").rglob("__init__.py")]
    ours += ["iommufd_py" / path.parent.relative_to(ROOT) for path in (ROOT / "cli").rglob("__init__.py")]
    assert sorted(listed) == sorted(".".join(path.parts) for path in ours)
