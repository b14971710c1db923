# SPDX-License-Identifier: MIT
"""Boot a kernel under QEMU and run one command in it."""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

from iommufd_py.host.kernel_log import scan_kernel_log
from iommufd_py.lab.emulators import cached_emulator
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.guest import failure, guest_script, share_args, shell_command, write_script
from iommufd_py.lab.kvm import kvm_problem
from iommufd_py.lab.machine import Accel, Machine, scratch_args
from iommufd_py.lab.process import interact, space_explained, supervise
from iommufd_py.lab.qemu import compose
from iommufd_py.lab.runs import (
    RunResult,
    compile_package,
    guest_environment,
    memory_remark,
    new_run_directory,
    shared_directories,
)

# Size of the guest's NVMe namespace. Its file is sparse.
_SCRATCH_BYTES = 64 << 20


def run_in_vm(
    kernel: Path,
    command: Sequence[str],
    machine: Machine | None = None,
    *,
    kernel_name: str = "",
    rw: Sequence[Path] = (),
    timeout: float = 600,
    stdout: BinaryIO | None = None,
    stderr: BinaryIO | None = None,
    directory: Path | None = None,
) -> RunResult:
    """Boot *kernel* on *machine*, run *command* in it and wait for the end.

    The guest has the host's root file system: /etc, /tmp and /var are copied on write, the rest is read-only. The
    current directory and the directories of *rw* are shared read-write under the same paths; the root directory is
    not. The guest uses KVM if it runs with KVM on this machine.

    Args:
        kernel: a bzImage. Its modules are found in lib/modules/VERSION of a directory above it, or in its tree.
        command: the command and its arguments; it runs as root, in this Python environment and this directory.
        machine: the virtual machine. This function chooses its accelerator.
        kernel_name: name of the kernel for the guest (``IOMMUFD_LAB_KERNEL``); default: the path of the kernel.
        rw: further directories to share.
        timeout: seconds after which the guest is stopped.
        stdout: receives the command's output as it is written; default: ``sys.stdout``.
        stderr: the same for its errors.
        directory: directory for the files of the run, such as the kernel log; default: a new one.

    Raises:
        LabError: the guest could not be started, or *machine* needs the emulator and it is not built yet.
    """
    shares = shared_directories([Path.cwd(), *rw])
    machine = machine or Machine()
    for accel in accelerators(machine):
        guest = _Guest.prepare(command, replace(machine, accel=accel), kernel_name or str(kernel), shares, directory)
        argv = guest.compose(
            kernel,
            ["--script-sh", f"sh {shlex.quote(str(guest.script))}"],
            # virtme-ng would discard the console and put the status into a temporary file. The run keeps both.
            {"console": guest.log, "ret": guest.status},
        )
        start = time.monotonic()
        exited = supervise(argv, timeout, stdout or sys.stdout.buffer, stderr or sys.stderr.buffer)
        seconds = time.monotonic() - start
        if guest.said_something() or exited is None:
            break
    status = guest.status.read_text(encoding="ascii").strip() if exited is not None and guest.status.exists() else ""
    log = guest.log.read_text(encoding="utf-8", errors="replace")
    return RunResult(
        status=int(status) if status else None,
        accel=accel,
        seconds=seconds,
        timed_out=exited is None,
        failure=failure(log),
        splats=scan_kernel_log(log),
        kernel_log=guest.log,
        remark=memory_remark(log),
    )


def run_shell(kernel: Path, machine: Machine, *, kernel_name: str, rw: Sequence[Path]) -> int:
    """Boot *kernel*, run a shell in the guest on this terminal, and return the exit status of QEMU.

    The arguments are those of :func:`run_in_vm`.
    """
    shares = shared_directories([Path.cwd(), *rw])
    for accel in accelerators(machine):
        guest = _Guest.prepare(shell_command(), replace(machine, accel=accel), kernel_name, shares)
        guest.script.chmod(0o700)
        status = interact(guest.compose(kernel, ["--shell", str(guest.script)], {"dmesg": guest.log}))
        if guest.said_something():
            break
    return status


@dataclass(frozen=True, slots=True)
class _Guest:
    """A guest before its start: its machine, its shares, and the files of its run."""

    machine: Machine
    shares: Sequence[Path]
    directory: Path

    @property
    def script(self) -> Path:
        return self.directory / "guest.sh"

    @property
    def scratch(self) -> Path:
        return self.directory / "scratch.img"

    @property
    def log(self) -> Path:
        return self.directory / "kernel.log"

    @property
    def status(self) -> Path:
        return self.directory / "status"

    @classmethod
    def prepare(
        cls,
        command: Sequence[str],
        machine: Machine,
        kernel_name: str,
        shares: Sequence[Path],
        directory: Path | None = None,
    ) -> Self:
        guest = cls(machine, shares, directory or new_run_directory())
        compile_package()
        environment = guest_environment(machine.accel, str(machine), kernel_name)
        script = guest_script(
            command, cwd=Path.cwd(), environment=environment, shares=shares, cached=[Path(sys.prefix)]
        )
        with space_explained(guest.directory):
            write_script(guest.script, script)
            guest.log.touch()
        return guest

    def compose(self, kernel: Path, virtme_args: Sequence[str], channels: Mapping[str, Path]) -> list[str]:
        """Return the QEMU command line, and write it to a file of the run. *channels* gives the file of each channel
        of virtme-ng.
        """
        settings = [arg for name, path in channels.items() for arg in ("-set", f"chardev.{name}.path={path}")]
        with self.scratch.open("wb") as scratch:
            scratch.truncate(_SCRATCH_BYTES)
        devices = [*settings, *share_args(self.shares), *scratch_args(self.scratch)]
        emulator = _emulator() if self.machine.incoherent else None
        initramfs = self.directory / "initramfs"
        # A run composes twice if the kernel dies on KVM; virtme-ng does not overwrite the file.
        initramfs.unlink(missing_ok=True)
        argv = compose(kernel, self.machine, virtme_args, devices, initramfs=initramfs, emulator=emulator)
        with space_explained(self.directory):
            write_script(self.directory / "qemu.sh", shlex.join(argv) + "\n")
        return argv

    def said_something(self) -> bool:
        """Return whether the guest's kernel printed its first line. A kernel that KVM cannot run prints none."""
        return self.log.stat().st_size > 0


def accelerators(machine: Machine) -> tuple[Accel, ...]:
    """Return the accelerators to try, in order.

    An emulated CPU follows KVM, because some guests die on KVM before the first line of their kernel.
    """
    return ("tcg",) if machine.incoherent or kvm_problem() else ("kvm", "tcg")


def _emulator() -> Path:
    emulator = cached_emulator()
    if emulator is None:
        raise LabError("the emulator with CPU caches is not built yet; run: iommufd lab emulator build")
    return emulator.program
