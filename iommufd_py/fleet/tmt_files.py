# SPDX-License-Identifier: MIT
"""Write a plan and a test for tmt (https://tmt.readthedocs.io), for labs that lend through Beaker or Testing Farm."""

import shutil
from pathlib import Path

from iommufd_py.base.errors import ToolError

_SOURCE = Path(__file__).with_name("tmt")
_FMF_VERSION = "1\n"


def write_tmt_files(directory: Path) -> list[Path]:
    """Write the files into *directory*, make it a tmt tree, and return the written paths.

    Raises:
        ToolError: a file already exists or cannot be written. Existing files stay unchanged.
    """
    sources = sorted(one for one in _SOURCE.rglob("*") if one.is_file() and one.suffix != ".pyc")
    targets = [directory / one.relative_to(_SOURCE) for one in sources]
    present = next((one for one in targets if one.exists()), None)
    if present is not None:
        raise ToolError(f"{present} already exists: remove it, or name another directory")
    try:
        for source, target in zip(sources, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        root = directory / ".fmf/version"
        if not root.exists():
            root.parent.mkdir(exist_ok=True)
            root.write_text(_FMF_VERSION)
            targets.append(root)
    except OSError as failure:
        raise ToolError(f"{failure.filename} cannot be written: {failure.strerror}") from None
    return targets
