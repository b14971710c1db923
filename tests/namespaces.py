# SPDX-License-Identifier: MIT
"""Run Python in namespaces of its own, as in a container."""

import subprocess
import sys

import pytest

from tests.waiting import patience


def python_in_namespaces(code: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run *code* as root of another user namespace. Options of unshare(1) add further namespaces.

    The test is skipped where this machine does not permit that.
    """
    command = ["unshare", "--user", "--map-root-user", *options, sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(12), check=False)
    if done.stderr.startswith("unshare: "):
        pytest.skip(done.stderr.strip())
    return done
