# SPDX-License-Identifier: MIT
"""Directories of runs: what a guest was started with and what its kernel said, kept for a look afterwards."""

import os
import shutil
import time
from pathlib import Path

from iommufd_py.lab import paths

__all__ = ["KEPT_RUNS", "new_run_directory"]

KEPT_RUNS = 20


def new_run_directory() -> Path:
    """Make the directory of a new run and remove the oldest ones beyond :data:`KEPT_RUNS`."""
    parent = paths.runs_dir()
    directory = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9 // 10**6:03}-{os.getpid()}"
    directory.mkdir(parents=True, mode=0o700)
    finished = [path for path in sorted(parent.iterdir()) if not _in_use(path)]
    for old in finished[: max(0, len(finished) - KEPT_RUNS)]:
        # Another process may be removing the same directory.
        shutil.rmtree(old, ignore_errors=True)
    return directory


def _in_use(directory: Path) -> bool:
    return Path("/proc", directory.name.rpartition("-")[2]).exists()
