# SPDX-License-Identifier: MIT
"""The form of command lines in results and records."""

import sys
from collections.abc import Sequence

from iommufd_py.base.shown import result_text

_SECRET = "--vf-token"
_HIDDEN = "..."


def without_secrets(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without the VF token, because other users can read the files."""
    kept: list[str] = []
    for word in words:
        if kept and kept[-1] == _SECRET:
            kept.append(_HIDDEN)
        elif word.startswith(f"{_SECRET}="):
            kept.append(f"{_SECRET}={_HIDDEN}")
        else:
            kept.append(word)
    return kept


def recorded_command() -> tuple[str, ...]:
    """Return the command line of this process in the form for results: without secrets, in printable characters."""
    return tuple(map(result_text, without_secrets(sys.argv)))
