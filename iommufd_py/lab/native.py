# SPDX-License-Identifier: MIT
"""Run one command on User-Mode Linux: the kernel is a process of this machine and uses its CPU and caches.

The kernel has iommufd, the mock driver and the sample driver mtty, but no hardware. Nothing here needs root.
"""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from iommufd_py.base.sysfs import cpuinfo_field
from iommufd_py.host.kernel_log import scan_kernel_log
from iommufd_py.lab.confine import can_confine, confined
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.guest import (
    END_MARK,
    failure,
    guest_script,
    mount_hostfs,
    native_init,
    shell_command,
    write_script,
)
from iommufd_py.lab.machine import NativeMachine
from iommufd_py.lab.process import interact, space_explained, supervise
from iommufd_py.lab.runs import (
    RunResult,
    compile_package,
    guest_environment,
    memory_remark,
    new_run_directory,
    shared_directories,
)

MEMORY_DIRECTORY = Path("/dev/shm")
"""Directory of the unlinked file that holds the guest's memory."""

# The directory of the guest's memory, and the devices that every process opens.
_WRITABLE = (MEMORY_DIRECTORY, Path("/dev/null"), Path("/dev/ptmx"), Path("/dev/pts"))

# The console is the kernel log and goes to the log file. The command's two streams are descriptors 3 and 4, copies of
# the standard streams that the supervisor reads.
_WITH_CHANNELS = 'exec 3>&1 4>&2 >>"$0" 2>&1 </dev/null 5</dev/null 6</dev/null; exec "$@"'
# The same, but descriptors 5 and 3 are a terminal.
_WITH_TERMINAL = 'exec 3>&1 4>&2 5<&0 >>"$0" 2>&1 </dev/null 6</dev/null; exec "$@"'
_LOG = "kernel.log"


def run_natively(
    kernel: Path,
    command: Sequence[str],
    machine: NativeMachine | None = None,
    *,
    kernel_name: str = "",
    rw: Sequence[Path] = (),
    timeout: float = 600,
    stdout: BinaryIO | None = None,
    stderr: BinaryIO | None = None,
    directory: Path | None = None,
) -> RunResult:
    """Start *kernel*, run *command* on it and wait for the end.

    The guest has the host's root file system, with the rights of the caller: /etc, /tmp and /var are copied on write,
    the rest is read-only. The current directory and the directories of *rw* are shared read-write. If this machine's
    kernel has Landlock, even the guest's root user cannot write elsewhere. Standard input is empty.

    Args:
        kernel: the program ``linux`` of a build with ARCH=um.
        command: the command and its arguments; it runs as root of the guest, in this Python environment and directory.
        machine: the size of its memory.
        kernel_name: name of the kernel for the guest (``IOMMUFD_LAB_KERNEL``); default: the path of the kernel.
        rw: further directories to share.
        timeout: seconds after which the guest is stopped.
        stdout: receives the command's output as it is written; default: ``sys.stdout``.
        stderr: the same for its errors.
        directory: directory for the files of the run, such as the kernel log; default: a new one.

    Raises:
        LabError: the guest could not be started.
    """
    machine = machine or NativeMachine()
    directory = directory or new_run_directory()
    argv = _prepare(kernel, command, machine, kernel_name, rw, directory)
    log = directory / _LOG
    start = time.monotonic()
    status = supervise(argv, timeout, stdout or sys.stdout.buffer, stderr or sys.stderr.buffer)
    text = log.read_text(encoding="utf-8", errors="replace")
    return RunResult(
        status=status if END_MARK in text else None,
        accel="uml",
        seconds=time.monotonic() - start,
        timed_out=status is None,
        failure=failure(text),
        splats=scan_kernel_log(text),
        remark=memory_remark(text),
        kernel_log=log,
    )


def run_shell_natively(kernel: Path, machine: NativeMachine, *, kernel_name: str, rw: Sequence[Path]) -> int:
    """Start *kernel*, run a shell in the guest on this terminal, and return its exit status.

    The arguments are those of :func:`run_natively`.

    Raises:
        LabError: the guest could not be started.
    """
    directory = new_run_directory()
    status = interact(_prepare(kernel, shell_command(), machine, kernel_name, rw, directory, terminal=True))
    text = (directory / _LOG).read_text(encoding="utf-8", errors="replace")
    trouble = failure(text)
    if trouble is not None:
        raise LabError(trouble)
    return status


def _prepare(
    kernel: Path,
    command: Sequence[str],
    machine: NativeMachine,
    kernel_name: str,
    rw: Sequence[Path],
    directory: Path,
    *,
    terminal: bool = False,
) -> list[str]:
    """Write the files of a run to *directory*, and return the command that starts the guest.

    With *terminal*, the command of the guest runs on the terminal of this process.
    """
    _require_memory(machine.memory_bytes)
    shares = shared_directories([Path.cwd(), *rw])
    compile_package()
    log, script, init = (directory / name for name in (_LOG, "guest.sh", "init.sh"))
    environment = guest_environment("uml", str(machine), kernel_name or str(kernel)) | {"IOMMUFD_LAB_CPU": _cpu()}
    argv = [str(kernel.resolve()), *machine.kernel_args(), _init_argument(init), f"uml_dir={directory}/", "umid=uml"]
    streams = _WITH_TERMINAL if terminal else _WITH_CHANNELS
    argv = ["env", f"TMPDIR={MEMORY_DIRECTORY}", "sh", "-c", streams, str(log), *argv]
    with space_explained(directory):
        write_script(
            script,
            guest_script(command, cwd=Path.cwd(), environment=environment, shares=shares, mount_share=mount_hostfs),
        )
        write_script(init, native_init(script, sys.executable, terminal=terminal))
        init.chmod(0o700)
        log.touch()
        write_script(directory / "uml.sh", shlex.join(argv) + "\n")
    argv = _on_one_cpu(argv)
    if can_confine():
        argv = confined(argv, [*shares, directory, *filter(Path.exists, _WRITABLE)])
    return argv


def guest_cpu() -> int:
    """Return the number of the CPU that a native guest runs on: the last allowed CPU. ``taskset`` allows others."""
    return max(os.sched_getaffinity(0))


def _init_argument(init: Path) -> str:
    """Return the word of the kernel's command line that names the first program. The kernel splits it at blanks.

    Raises:
        LabError: the path cannot be written there.
    """
    if '"' in str(init):
        raise LabError(f"the path {init} contains a quotation mark: set XDG_CACHE_HOME to a directory without one")
    return f'init="{init}"'


def _on_one_cpu(argv: Sequence[str]) -> list[str]:
    """Return the command that runs *argv* on one CPU.

    The guest's kernel and its programs are processes that wait for each other at every system call. On two CPUs, each
    call wakes an idle CPU twice: an empty ioctl took 96 us on an idle machine, and 14 us on one CPU.
    """
    return ["taskset", "--cpu-list", str(guest_cpu()), *argv]


def _require_memory(size_bytes: int) -> None:
    """Refuse a memory size that this machine cannot back. Otherwise SIGBUS would kill the guest at the first missing
    page.
    """
    if not os.access(MEMORY_DIRECTORY, os.W_OK) or os.statvfs(MEMORY_DIRECTORY).f_flag & os.ST_NOEXEC:
        raise LabError(
            f"the guest's memory cannot be a file in {MEMORY_DIRECTORY}; run: sudo mount -o remount,exec,mode=1777 "
            f"{MEMORY_DIRECTORY}"
        )
    free = shutil.disk_usage(MEMORY_DIRECTORY).free
    if free < size_bytes:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        enough = f", or run: sudo mount -o remount,size=100% {MEMORY_DIRECTORY}" if size_bytes < whole else ""
        raise LabError(
            f"{MEMORY_DIRECTORY} has {free >> 20} MiB free and the guest's memory is {size_bytes >> 20} MiB; ask for "
            f"less with --memory{enough}"
        )


def _cpu() -> str:
    """Return the name of this machine's CPU. User-Mode Linux does not show it."""
    return cpuinfo_field(Path("/proc/cpuinfo").read_text("utf-8", "replace"), "model name") or os.uname().machine
