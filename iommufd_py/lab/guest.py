# SPDX-License-Identifier: MIT
"""The script that the guest runs: shared directories, environment, the command, its exit status. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["BEGIN_MARK", "END_MARK", "forwarded_environment", "guest_script", "share_args"]

BEGIN_MARK = "iommufd-lab: run: "
END_MARK = "iommufd-lab: exit status "

# What a command sees of the caller's environment, as ssh does it: by list, because the rest names sockets and
# directories that do not exist in the guest, or holds secrets that have no business in a file.
_FORWARDED = frozenset(
    {"CI", "COLORTERM", "COLUMNS", "FORCE_COLOR", "HOME", "LANG", "LOGNAME", "NO_COLOR", "TERM", "TZ", "USER"}
)
_FORWARDED_PREFIXES = ("HYPOTHESIS_", "IOMMUFD_", "LC_", "PYTEST_", "PYTHON")


def forwarded_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of *environ* that a command in the guest inherits."""
    return {
        name: value for name, value in environ.items() if name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES)
    }


def share_args(directories: Sequence[Path]) -> tuple[str, ...]:
    """Return the QEMU arguments that export *directories* read-write, as the tags ``share0``, ``share1``, ..."""
    args: list[str] = []
    for index, directory in enumerate(directories):
        path = str(directory).replace(",", ",,")
        args += ["-fsdev", f"local,id=share{index},path={path},security_model=none,multidevs=remap"]
        args += ["-device", f"virtio-9p-pci,fsdev=share{index},mount_tag=share{index}"]
    return tuple(args)


def guest_script(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    shares: Sequence[Path] = (),
    cached: Sequence[Path] = (),
) -> str:
    """Return a shell script that runs *command* in the guest.

    Args:
        command: the command and its arguments.
        cwd: its working directory.
        environment: variables to set for it.
        shares: directories, in the order of :func:`share_args`, to mount read-write over the same path.
        cached: directories below a share that do not change during the run (the virtual environment): they stay on the
            root file system, which is mounted with caching, as every module that Python imports there is otherwise
            several round trips to the host.
    """
    shown = shlex.join(command)
    lines = ["#!/bin/sh", 'fail() { echo "iommufd-lab: $1" >&2; exit 125; }']
    held = [path for path in cached if any(path.is_relative_to(share) for share in shares)]
    for index, path in enumerate(held):
        lines += [f"mkdir -p /run/iommufd-lab/{index}", f"mount --bind {_quote(path)} /run/iommufd-lab/{index}"]
    for index, path in enumerate(shares):
        options = "trans=virtio,version=9p2000.L,msize=512000,access=any"
        problem = _quote(f"cannot mount {path} in the guest")
        lines.append(f"mount -t 9p -o {options} share{index} {_quote(path)} || fail {problem}")
    lines += [f"mount --bind /run/iommufd-lab/{index} {_quote(path)}" for index, path in enumerate(held)]
    variables = shlex.join(f"{name}={value}" for name, value in sorted(environment.items()))
    lines += [
        f"cd {_quote(cwd)} || fail {_quote(f'there is no directory {cwd} in the guest')}",
        f"printf '%s\\n' {shlex.quote(BEGIN_MARK + shown)} > /dev/kmsg",
        # A clean environment: unknown words of the kernel's command line end up in that of its init.
        f"env -i {variables} {shown}",
        "status=$?",
        f'echo "{END_MARK}$status" > /dev/kmsg',
        "exit $status",
    ]
    return "\n".join(lines) + "\n"


def _quote(value: object) -> str:
    return shlex.quote(str(value))
