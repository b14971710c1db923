# SPDX-License-Identifier: MIT
"""Compose a QEMU command line with virtme-ng, or run one on this terminal."""

import functools
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from iommufd_py.lab.emulators import FIRMWARE
from iommufd_py.lab.errors import LabError, NoDeviceError
from iommufd_py.lab.guest import OVERLAYS
from iommufd_py.lab.machine import Machine

QEMU = "qemu-system-x86_64"
UDEVD = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd")

# Let the guest cache names and pages of its root. It does not see later changes by the host; the agent of a warm guest
# drops the cache before each command.
_ROOT_FLAGS = "rootflags=version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose"

# A line of QEMU's list of devices has the name and the alias of a device.
_DEVICE_NAME = re.compile(r'\b(?:name|alias) "([^"]+)"')


def compose(
    kernel: Path,
    machine: Machine,
    virtme_args: Sequence[str],
    qemu_args: Sequence[str],
    *,
    emulator: Path | None = None,
) -> list[str]:
    """Return the QEMU command line for *machine*, as virtme-ng would start it, with *emulator* for the packaged QEMU.

    virtme-ng contributes the host's root file system as the guest's root, its small init, and the channels for output
    and exit status. The function calls ``virtme-run`` instead of ``vng``, because a user's configuration of ``vng``
    changes the machine.

    Raises:
        NoDeviceError: QEMU does not have one of the machine's further devices.
        LabError: virtme-ng, QEMU or udev is not installed, or virtme-ng refuses the arguments.
    """
    require_qemu(machine, emulator)
    # -P: otherwise a directory "virtme" of the current directory would run instead, as root where this is root's.
    argv = [sys.executable, "-P", "-m", "virtme.commands.run", "--dry-run", "--show-command", "--kimg", str(kernel)]
    argv += ["--mods", "none", "--disable-microvm", "--force-9p", "--name", "iommufd-lab"]
    argv += ["--memory", f"{machine.memory_bytes >> 20}M", "--cpus", str(machine.cpus)]
    if machine.accel == "tcg":
        argv.append("--disable-kvm")
    for directory in OVERLAYS:
        argv += ["--overlay-rwdir", directory]
    for arg in (*machine.kernel_args(), _ROOT_FLAGS):
        argv += ["--kopt", arg]
    argv += [*virtme_args, "--qemu-opts", *machine.qemu_args(), *qemu_args]
    # virtme-run chooses the guest's channels by the type of its standard streams. It gets pipes, as QEMU does later.
    done = subprocess.run(argv, input="", capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        why = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise LabError(f"virtme-ng cannot compose the virtual machine: {why}")
    packaged, *args = shlex.split(done.stdout)
    if emulator is None:
        return [packaged, *args]
    return [str(emulator), *(word for directory in FIRMWARE for word in ("-L", directory)), *args]


def require_qemu(machine: Machine, emulator: Path | None = None) -> None:
    """Raise an error unless the programs for *machine* are installed and QEMU has its devices.

    Args:
        machine: the machine.
        emulator: the QEMU for it; default: the packaged one.

    Raises:
        NoDeviceError: QEMU does not have one of the machine's further devices.
        LabError: virtme-ng, QEMU or udev is not installed.
    """
    if importlib.util.find_spec("virtme") is None:
        raise LabError("virtme-ng is not installed in this Python environment; run: pip install 'iommufd-py[lab]'")
    if shutil.which(QEMU) is None:
        raise LabError(f"{QEMU} is not installed; run: sudo apt-get install qemu-system-x86")
    if not any(map(os.path.exists, UDEVD)):
        raise LabError("udev is not installed, and a guest without it loses all output; run: sudo apt-get install udev")
    _require_devices(str(emulator or QEMU), machine.devices)


def _require_devices(qemu: str, devices: Sequence[str]) -> None:
    """Refuse a value of -device whose device *qemu* does not have; it would print a message and exit with 1."""
    for device in devices:
        name = device.partition(",")[0].removeprefix("driver=")
        if name not in _known_devices(qemu):
            raise NoDeviceError(f"this QEMU has no device {name!r}; '{qemu} -device help' lists those that it has")


# One command asks twice: before a kernel is compiled, and when QEMU starts.
@functools.cache
def _known_devices(qemu: str) -> frozenset[str]:
    done = subprocess.run([qemu, "-device", "help"], capture_output=True, text=True, check=False)
    known = frozenset(_DEVICE_NAME.findall(done.stdout))
    if not known:
        why = done.stderr.strip() or f"exit status {done.returncode}"
        raise LabError(f"{qemu} does not list its devices: {why}")
    return known
