# SPDX-License-Identifier: MIT
"""The script that a guest runs: it mounts shares, sets the environment, runs the command and keeps its exit status.
Pure.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BEGIN_MARK = "iommufd-lab: run: "
END_MARK = "iommufd-lab: exit status "
_FAILURE_MARK = "iommufd-lab: failed: "

OVERLAYS = ("/etc", "/tmp", "/var")
"""Directories that a guest copies on write, because programs expect to write there. The rest of the root file system is
read-only: a program that writes a result to a wrong place fails, and no result is lost silently."""

# The variables that a command in the guest inherits. Other variables name sockets and directories that the guest does
# not have, or hold secrets that do not belong into a file.
_FORWARDED = frozenset(
    {"CI", "COLORTERM", "COLUMNS", "FORCE_COLOR", "HOME", "LANG", "LOGNAME", "NO_COLOR", "TERM", "TZ", "USER"}
)
_FORWARDED_PREFIXES = ("HYPOTHESIS_", "IOMMUFD_", "LC_", "PYTEST_", "PYTHON")
# The guest's output takes 32 KiB at a time, and unbuffered Python drops the rest.
_NOT_FORWARDED = frozenset({"PYTHONUNBUFFERED"})


def forwarded_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of *environ* that a command in the guest inherits."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES)) and name not in _NOT_FORWARDED
    }


def share_args(directories: Sequence[Path]) -> tuple[str, ...]:
    """Return the QEMU arguments that export *directories* read-write, as the tags ``share0``, ``share1``, ..."""
    args: list[str] = []
    for index, directory in enumerate(directories):
        path = str(directory).replace(",", ",,")
        args += ["-fsdev", f"local,id=share{index},path={path},security_model=none,multidevs=remap"]
        args += ["-device", f"virtio-9p-pci,fsdev=share{index},mount_tag=share{index}"]
    return tuple(args)


def mount_9p(index: int, path: Path) -> list[str]:
    """Return the command that mounts share number *index* of a virtual machine at *path*."""
    options = "trans=virtio,version=9p2000.L,msize=512000,access=any"
    return ["mount", "-t", "9p", "-o", options, f"share{index}", str(path)]


def mount_hostfs(index: int, path: Path) -> list[str]:
    """Return the command that mounts the directory *path* of this machine at *path* of a User-Mode Linux.

    mount(2) passes all options to hostfs as one text, and hostfs takes that text as the directory. util-linux 2.39 and
    newer use fsconfig(2), which passes each option by name; hostfs refuses the directory as a name. The variable makes
    a newer mount(8) use mount(2). An older one ignores it. Sources: fs/hostfs/hostfs_kern.c, mount(8).
    """
    return ["env", "LIBMOUNT_FORCE_MOUNT2=always", "mount", "-t", "hostfs", "-o", str(path), "none", str(path)]


def failure(kernel_log: str) -> str | None:
    """Return why the guest's set-up failed, from its kernel log. Return None if the set-up succeeded."""
    # Text after the mark of the command's start may come from the command.
    match = re.search(rf"{_FAILURE_MARK}(.*)", kernel_log.partition(BEGIN_MARK)[0])
    return match[1].strip() if match else None


def _functions(leave: str) -> str:
    """Return the shell functions ``try``, which runs a necessary step of the set-up, and ``fail``.

    The message of a failed step goes to the kernel log. There :func:`failure` finds it, even if the guest's output is
    lost. Then the script runs *leave*. The kernel log takes a line of at most about 1000 bytes.
    """
    return f"""fail() {{
    line=$(printf '%s' "$*" | tr -s '[:space:]' ' ' | cut -b -800)
    printf '%s%s\\n' {shlex.quote(_FAILURE_MARK)} "$line" > /dev/kmsg
    {leave}
}}
try() {{
    said=$("$@" 2>&1) || fail "$said [$*]"
}}"""


def guest_script(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    shares: Sequence[Path] = (),
    cached: Sequence[Path] = (),
    mount_share: Callable[[int, Path], Sequence[str]] = mount_9p,
) -> str:
    """Return a shell script that runs *command* in the guest.

    Args:
        command: the command and its arguments.
        cwd: its working directory.
        environment: variables to set for it.
        shares: directories, in the order of :func:`share_args`, to mount read-write over the same path.
        cached: directories below a share that do not change during the run (the virtual environment). They stay on the
            root file system, which the guest caches. On a share, each import of a Python module would take several
            round trips to the host.
        mount_share: function that returns the command to mount a share, from its number and path.
    """
    shown = shlex.join(command)
    lines = ["#!/bin/sh", _functions("exit 125")]
    held = [path for path in cached if any(path.is_relative_to(share) for share in shares)]
    for index, path in enumerate(held):
        store = f"/run/iommufd-lab/{index}"
        lines += [f"try mkdir -p {store}", f"try mount --bind {_quote(path)} {store}"]
    lines += [f"try {shlex.join(mount_share(index, path))}" for index, path in enumerate(shares)]
    lines += [f"try mount --bind /run/iommufd-lab/{index} {_quote(path)}" for index, path in enumerate(held)]
    variables = shlex.join(f"{name}={value}" for name, value in sorted(environment.items()))
    lines += [
        f"cd {_quote(cwd)} 2> /dev/null || fail {_quote(f'there is no directory {cwd}')}",
        f"printf '%s\\n' {shlex.quote(BEGIN_MARK + shown)} > /dev/kmsg",
        # The environment starts empty: the kernel passes unknown words of its command line to init as variables.
        f"env -i {variables} {shown}",
        "status=$?",
        f'echo "{END_MARK}$status" > /dev/kmsg',
        "exit $status",
    ]
    return "\n".join(lines) + "\n"


def write_script(file: Path, text: str) -> None:
    """Write a script. Words of a command, values of variables and names of files can have bytes that are not UTF-8."""
    file.write_text(text, encoding="utf-8", errors="surrogateescape")


def shell_command() -> list[str]:
    """Return the command of a shell in a guest, for the terminal of this process."""
    columns, rows = os.get_terminal_size(0)
    return ["sh", "-c", f"stty rows {rows} cols {columns}; PS1='lab:\\w# ' exec bash --norc -i"]


def native_init(script: Path, python: str, *, terminal: bool) -> str:
    """Return the first process of a User-Mode Linux: a shell script that runs *script* and powers off.

    Args:
        script: the script to run.
        python: path of a Python interpreter.
        terminal: whether *script* runs on terminal 1 of the guest, for a person. Otherwise terminals 1 and 2 carry the
            output and the errors of *script*, which itself writes to pipes.
    """
    power_off = shlex.join([python, "-IS", "-c", "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)"])
    run = f"""cd /run/iommufd-lab
try mkfifo out err
for number in 1 2; do
    try stty -F /dev/tty$number raw -echo
done
cat < out > /dev/tty1 & out=$!
cat < err > /dev/tty2 & err=$!
sh {_quote(script)} < /dev/null > out 2> err
echo $? > /proc/exitcode
# A background process of the command can hold its output open.
(sleep 5; kill -9 -1) &
wait $out $err"""
    if terminal:
        run = f"""setsid --ctty --wait sh {_quote(script)} < /dev/tty1 > /dev/tty1 2>&1
echo $? > /proc/exitcode"""
    return f"""#!/bin/sh
{_functions(f"exec {power_off}")}
try mount -t proc proc /proc
try mount -t sysfs sysfs /sys
try mount -t debugfs debugfs /sys/kernel/debug
[ ! -d /sys/kernel/tracing ] || try mount -t tracefs tracefs /sys/kernel/tracing
try mount -t tmpfs tmpfs /run
# The kernel does not make these names, which bash needs for <(COMMAND).
try ln -s /proc/self/fd /dev/fd
try ln -s /proc/self/fd/0 /dev/stdin
try ln -s /proc/self/fd/1 /dev/stdout
try ln -s /proc/self/fd/2 /dev/stderr
try mkdir -p /dev/pts /dev/shm
try mount -t devpts devpts /dev/pts
try mount -t tmpfs tmpfs /dev/shm
for directory in {" ".join(OVERLAYS)}; do
    store=/run/iommufd-lab$directory
    try mkdir -p $store/upper $store/work
    try mount -t overlay -o lowerdir=$directory,upperdir=$store/upper,workdir=$store/work overlay $directory
done
{run}
exec {power_off}
"""


def _quote(value: object) -> str:
    return shlex.quote(str(value))
