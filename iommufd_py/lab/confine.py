# SPDX-License-Identifier: MIT
"""Confine a program and its children, so that they can write below a few directories only. Landlock needs no privilege.

This file is also a program that turns into the confined program. Otherwise Python would fork and confine the child
before exec. A process with threads must not do that: a lock that another thread holds stays locked in the child.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

# Sources: landlock_create_ruleset(2) and its relatives, include/uapi/linux/landlock.h, include/uapi/linux/prctl.h. The
# numbers of the system calls are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1  # This flag asks for the version of Landlock.
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
# Removing and making files of every kind, and linking them across directories.
_CHANGE_DIRECTORY = sum(1 << bit for bit in range(4, 14))
_TRUNCATE_SINCE = 3  # the version of Landlock with this right

_libc = ctypes.CDLL(None, use_errno=True)


def _version() -> int:
    return int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION))


def can_confine() -> bool:
    """Return whether the kernel has the access rights of Landlock that :func:`confined` needs."""
    return _version() >= _TRUNCATE_SINCE


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def confined(argv: Sequence[str], writable: Sequence[Path]) -> list[str]:
    """Return the command that runs *argv*, confined to write *writable* and everything below.

    Its exit status is that of *argv*. It fails if the kernel refuses; see :func:`can_confine`.
    """
    # Isolated and without site: the program needs the standard library only, and starts in a third of the time.
    return [sys.executable, "-IS", __file__, *map(str, writable), "--", *argv]


def _confine(writable: Sequence[Path]) -> None:
    """Forbid this process irrevocably to write files, except *writable* and everything below.

    Raises:
        OSError: the kernel refuses.
    """
    everything = _WRITE_FILE | _TRUNCATE | _CHANGE_DIRECTORY
    attributes = struct.pack("=Q", everything)
    call = _libc.syscall
    rules = _checked(call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock_create_ruleset")
    for path in writable:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = everything if path.is_dir() else _WRITE_FILE | _TRUNCATE
        rule = struct.pack("=Qi", allowed, place)
        _checked(call(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, 0), f"landlock_add_rule({path})")
        os.close(place)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    _checked(call(_RESTRICT_SELF, rules, 0), "landlock_restrict_self")
    os.close(rules)


def _main(arguments: list[str]) -> None:
    border = arguments.index("--")
    try:
        _confine([Path(name) for name in arguments[:border]])
        os.execvp(arguments[border + 1], arguments[border + 1 :])
    except OSError as failure:
        sys.exit(f"iommufd: cannot start {arguments[border + 1]} confined: {failure}")


if __name__ == "__main__":
    _main(sys.argv[1:])
