# SPDX-License-Identifier: MIT
"""Keep each result of a long run in a file as soon as it is known, so that a later run can continue."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from iommufd_py.base.files import write_file
from iommufd_py.lab import cache, paths
from iommufd_py.lab.records import read_object
from scripts import inputs

ROOT = Path(__file__).resolve().parents[2]

# Each kind of guest and each set of options has a directory. Eight are enough for the present state of the tool.
_MOST_DIRECTORIES = 8


class Kept:
    """The results of one kernel and one state of the tool. A file is complete or absent, even after a power failure.

    The results of another kernel, or of other sources of the tool, are in another directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def of(cls, sources: Iterable[str], *others: str) -> "Kept":
        """Return the results in the lab's cache, and remove the oldest of the other directories.

        Args:
            sources: files and folders of the checkout that decide a result, together with their imports.
            others: more words that decide it: the key of the kernel, the kind of guest, options.
        """
        name = inputs.digest_inputs(ROOT, sources, [*others, sys.version], always=["cffi_build"])
        parent = paths.mutants_dir()
        rest = [path for path in parent.iterdir() if path.name != name] if parent.exists() else []
        for old in sorted(rest, key=lambda path: path.stat().st_mtime, reverse=True)[_MOST_DIRECTORIES - 1 :]:
            cache.remove_tree(old)
        return cls(parent / name)

    def get(self, subject: str) -> dict[str, Any] | None:
        """Return the result for *subject*, which is the whole text that was judged; None if no result is kept."""
        return dict(read_object(self._file(subject))) or None

    def put(self, subject: str, result: dict[str, Any]) -> None:
        """Keep the result for *subject*.

        Raises:
            ToolError: the file cannot be written.
        """
        paths.make(self._directory)
        write_file(self._file(subject), json.dumps(result).encode())

    def _file(self, subject: str) -> Path:
        return self._directory / f"{cache.digest(subject.encode())}.json"
