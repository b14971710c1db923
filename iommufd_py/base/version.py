# SPDX-License-Identifier: MIT
"""The version of this tool. It distinguishes any two commits in results."""

import functools
import re
import shutil
import subprocess
from importlib.metadata import version as installed_version
from pathlib import Path

_DISTRIBUTION = "iommufd-py"
_GIT_SECONDS = 10


@functools.cache
def tool_version() -> str:
    """Return the version of the code that runs.

    An installed package has the version that setuptools-scm wrote into it. The checkout of an editable install changes
    after the installation, so git describes it at each call: ``v0.2.0-5-gd973c2279287``, or only the commit before the
    first tag. ``-dirty`` marks an edited file. The files of ``git archive`` name their commit. The version is
    ``unknown`` if git cannot describe the checkout.
    """
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        return _describe(root) or "unknown"
    return _archived_commit(root) or installed_version(_DISTRIBUTION)


def _archived_commit(root: Path) -> str | None:
    try:
        text = (root / ".git_archival.txt").read_text()
    except OSError:
        return None
    found = re.search("^describe-name: (v.+)$|^node: ([0-9a-f]{12})", text, re.MULTILINE)
    return next(filter(None, found.groups())) if found else None


def _describe(root: Path) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    # If root runs the checkout of a user, git refuses to read it unless it is a safe.directory.
    command = [git, "-c", f"safe.directory={root}", "-C", str(root)]
    command += ["describe", "--tags", "--match", "v[0-9]*", "--long", "--always", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
