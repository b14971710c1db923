# SPDX-License-Identifier: MIT
"""The remedy for a call that the kernel refuses for lack of permission."""

import os


def permission_remedy() -> str:
    """Return what to do, as a clause. The advice to become root would not help root."""
    if os.geteuid():
        return "run as root, or with sudo"
    return "this process is root, so a container, a service or a security module forbids it: allow it there"
