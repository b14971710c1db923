# SPDX-License-Identifier: MIT
"""The script that the guest runs: shared directories, environment, the command, its exit status. Pure."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BEGIN_MARK = "iommufd-lab: run: "
END_MARK = "iommufd-lab: exit status "

OVERLAYS = ("/etc", "/tmp", "/var")
"""Copy on write in a guest: where programs expect to be able to write. The rest of the root file system is read-only,
so that a result written to a wrong place is an error and not lost in silence."""

# What a command sees of the caller's environment, as ssh does it: by list, because the rest names sockets and
# directories that do not exist in the guest, or holds secrets that have no business in a file.
_FORWARDED = frozenset(
    {"CI", "COLORTERM", "COLUMNS", "FORCE_COLOR", "HOME", "LANG", "LOGNAME", "NO_COLOR", "TERM", "TZ", "USER"}
)
_FORWARDED_PREFIXES = ("HYPOTHESIS_", "IOMMUFD_", "LC_", "PYTEST_", "PYTHON")
# The guest's output takes 32 KiB at a time, and Python without a buffer drops what is over.
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


def _mount_9p(index: int, path: Path) -> list[str]:
    options = "trans=virtio,version=9p2000.L,msize=512000,access=any"
    return ["mount", "-t", "9p", "-o", options, f"share{index}", str(path)]


def guest_script(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    shares: Sequence[Path] = (),
    cached: Sequence[Path] = (),
    mount_share: Callable[[int, Path], Sequence[str]] = _mount_9p,
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
        mount_share: gives the command that mounts a share, from its number and its path.
    """
    shown = shlex.join(command)
    lines = ["#!/bin/sh", 'fail() { echo "iommufd-lab: $1" >&2; exit 125; }']
    held = [path for path in cached if any(path.is_relative_to(share) for share in shares)]
    for index, path in enumerate(held):
        lines += [f"mkdir -p /run/iommufd-lab/{index}", f"mount --bind {_quote(path)} /run/iommufd-lab/{index}"]
    for index, path in enumerate(shares):
        problem = _quote(f"cannot mount {path} in the guest")
        lines.append(f"{shlex.join(mount_share(index, path))} || fail {problem}")
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


def native_init(script: Path, python: str) -> str:
    """Return the first process of a User-Mode Linux, a shell script that runs *script* and powers off.

    Its terminals 1 and 2 are the output and the errors of *script*, which gets to see pipes and no terminals.
    """
    power_off = [python, "-IS", "-c", "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)"]
    return f"""#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
for directory in {" ".join(OVERLAYS)}; do
    store=/run/iommufd-lab$directory
    mkdir -p $store/upper $store/work
    mount -t overlay -o lowerdir=$directory,upperdir=$store/upper,workdir=$store/work overlay $directory
done
cd /run/iommufd-lab
mkfifo out err
for number in 1 2; do
    stty raw -echo < /dev/tty$number
done
cat < out > /dev/tty1 & out=$!
cat < err > /dev/tty2 & err=$!
sh {_quote(script)} < /dev/null > out 2> err
echo $? > /proc/exitcode
# What the command left running in the background may hold its output open.
(sleep 5; kill -9 -1) &
wait $out $err
exec {shlex.join(power_off)}
"""


def _quote(value: object) -> str:
    return shlex.quote(str(value))
