# SPDX-License-Identifier: MIT
"""Write a plan and a test for tmt (https://tmt.readthedocs.io), for labs that lend through Beaker or Testing Farm."""

import os
from pathlib import Path

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import write_file

_SOURCE = Path(__file__).with_name("tmt")
_FMF_VERSION = "1\n"


def write_tmt_files(directory: Path) -> list[Path]:
    """Write the files into *directory*, make it a tmt tree, and return the written paths.

    Raises:
        ToolError: a file already exists or cannot be written. Existing files stay unchanged, and no new one is left.
    """
    sources = sorted(one for one in _SOURCE.rglob("*") if one.is_file() and one.suffix != ".pyc")
    contents = {directory / one.relative_to(_SOURCE): one.read_bytes() for one in sources}
    present = next((one for one in contents if os.path.lexists(one)), None)
    if present is not None:
        raise ToolError(f"{present} already exists: remove it, or name another directory")
    root = directory / ".fmf/version"
    if not os.path.lexists(root):
        contents[root] = _FMF_VERSION.encode()
    written: list[Path] = []
    try:
        for target, content in contents.items():
            _make_directory(target.parent)
            write_file(target, content)
            written.append(target)
    except BaseException:
        for target in written:
            target.unlink(missing_ok=True)
        raise
    return written


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise ToolError(f"{directory} cannot be created: {failure.strerror}; name another directory") from None
