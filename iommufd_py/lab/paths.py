# SPDX-License-Identifier: MIT
"""The directories of the lab. All lie below one directory of the user's cache. They can be deleted at any time."""

import os
from pathlib import Path


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/iommufd-py``, or ``~/.cache/iommufd-py``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "iommufd-py"


def kernels_dir() -> Path:
    """Finished kernels, one directory per key. What is here is complete."""
    return cache_root() / "kernels"


def emulators_dir() -> Path:
    """Finished emulators, one directory per key. What is here is complete."""
    return cache_root() / "emulators"


def sources_dir() -> Path:
    """Unpacked kernel sources, never written to after they were unpacked."""
    return cache_root() / "sources"


def work_dir() -> Path:
    """Object directories, patched trees and downloads: things that may be half done."""
    return cache_root() / "work"


def runs_dir() -> Path:
    """One directory per run of a guest, with its kernel log. Old ones are removed."""
    return cache_root() / "runs"


def guests_dir() -> Path:
    """One directory per warm guest, removed with the guest."""
    return cache_root() / "guests"
