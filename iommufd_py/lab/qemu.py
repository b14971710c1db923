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

from iommufd_py.base.installation import command_for_extra
from iommufd_py.base.shown import shown
from iommufd_py.lab import paths
from iommufd_py.lab.emulators import FIRMWARE, OWN_DEVICES
from iommufd_py.lab.errors import LabError, NoDeviceError
from iommufd_py.lab.guest import OVERLAYS
from iommufd_py.lab.machine import Machine

QEMU = "qemu-system-x86_64"
UDEVD = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd")

# Let the guest cache names and pages of its root. It does not see later changes by the host; the agent of a warm guest
# drops the cache before each command.
_ROOT_FLAGS = "rootflags=version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose"

# The programs with which virtme-ng makes an initramfs, and their packages.
_INITRAMFS_TOOLS = {"busybox": "busybox-static", "file": "file", "modprobe": "kmod"}

# The answer of virtme-ng if a kernel has no modules, or needs none to mount its root.
_NO_INITRAMFS = "initramfs is not used"

# A guest shows the modules of its kernel here, on a file system of its own.
_MODULES = Path("/lib/modules")

# A line of QEMU's list of devices has the name and the alias of a device.
_DEVICE_NAME = re.compile(r'\b(?:name|alias) "([^"]+)"')


def compose(
    kernel: Path,
    machine: Machine,
    virtme_args: Sequence[str],
    qemu_args: Sequence[str],
    *,
    initramfs: Path,
    emulator: Path | None = None,
) -> list[str]:
    """Return the QEMU command line for *machine*, as virtme-ng would start it, with *emulator* for the packaged QEMU.

    virtme-ng contributes the host's root file system as the guest's root, its small init, and the channels for output
    and exit status. The function calls ``virtme-run`` instead of ``vng``, because a user's configuration of ``vng``
    changes the machine.

    A kernel that somebody else built can have modules, in lib/modules/VERSION of a directory above the image, or in the
    tree of the build. virtme-ng writes the modules that mount the root to *initramfs*, and shows all to the guest.

    Args:
        kernel: the image.
        machine: the virtual machine.
        virtme_args: arguments for virtme-ng.
        qemu_args: arguments for QEMU.
        initramfs: path of the file to write if the kernel has modules.
        emulator: the QEMU that the command line starts; default: the packaged one.

    Raises:
        NoDeviceError: QEMU does not have one of the machine's further devices.
        LabError: virtme-ng, QEMU or udev is not installed, or virtme-ng refuses the arguments.
    """
    require_qemu(machine, emulator)
    argv = ["--disable-microvm", "--force-9p", "--name", "iommufd-lab"]
    argv += ["--memory", f"{machine.memory_bytes >> 20}M", "--cpus", str(machine.cpus)]
    if machine.accel == "tcg":
        argv.append("--disable-kvm")
    for directory in OVERLAYS:
        argv += ["--overlay-rwdir", directory]
    for arg in (*machine.kernel_args(), _ROOT_FLAGS):
        argv += ["--kopt", arg]
    argv += [*virtme_args, "--qemu-opts", *machine.qemu_args(), *qemu_args]
    # The lab's own kernels have no modules.
    if kernel.is_relative_to(paths.kernels_dir()) or (words := _with_modules(kernel, argv, initramfs)) is None:
        words = _virtme(kernel, ["--mods", "none", *argv])
    packaged, *args = words
    if emulator is None:
        return [packaged, *args]
    return [str(emulator), *(word for directory in FIRMWARE for word in ("-L", directory)), *args]


def _with_modules(kernel: Path, args: Sequence[str], initramfs: Path) -> list[str] | None:
    """Return the command line for a kernel whose root *initramfs* mounts, and write that file. Return None if the
    kernel has no modules, or needs none for its root.
    """
    try:
        words = _virtme(kernel, ["--mods", "auto", "--save-initramfs", str(initramfs), *args])
    except LabError as failure:
        if _NO_INITRAMFS in str(failure):
            return None
        lacking = lacking_for_modules()
        if not lacking:
            raise
        raise LabError(f"{failure}; for a kernel with modules run: sudo apt-get install {' '.join(lacking)}") from None
    if not _MODULES.is_dir():
        raise LabError(f"the guest shows the modules of {kernel} in {_MODULES}; run: sudo mkdir {_MODULES}")
    return words


def lacking_for_modules() -> list[str]:
    """Return the packages that a kernel with modules needs and this machine lacks."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return [package for tool, package in _INITRAMFS_TOOLS.items() if shutil.which(tool, path=search) is None]


def _virtme(kernel: Path, args: Sequence[str]) -> list[str]:
    # -P: otherwise a directory "virtme" of the current directory would run instead, as root where this is root's.
    argv = [sys.executable, "-P", "-m", "virtme.commands.run", "--dry-run", "--show-command", "--kimg", str(kernel)]
    # virtme-run chooses the guest's channels by the type of its standard streams. It gets pipes, as QEMU does later.
    done = subprocess.run(
        [*argv, *args],
        input="",
        capture_output=True,
        check=False,
        # The name of a shared directory can have bytes that are not UTF-8.
        env=os.environ | {"PYTHONIOENCODING": "utf-8:surrogateescape"},
        encoding="utf-8",
        errors="surrogateescape",
    )
    if done.returncode != 0 or not done.stdout.strip():
        why = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise LabError(f"virtme-ng cannot compose the virtual machine: {why}")
    return shlex.split(done.stdout)


def require_qemu(machine: Machine, emulator: Path | None = None) -> None:
    """Raise an error unless the programs for *machine* are installed and QEMU has its devices.

    Args:
        machine: the machine.
        emulator: the QEMU for it; default: the packaged one. The lab's emulator may have to be built first: then its
            devices are not checked yet.

    Raises:
        NoDeviceError: QEMU does not have one of the machine's further devices.
        LabError: virtme-ng, QEMU or udev is not installed.
    """
    if importlib.util.find_spec("virtme") is None:
        raise LabError(f"virtme-ng is not installed in this Python environment; run: {command_for_extra('lab')}")
    if shutil.which(QEMU) is None:
        raise LabError(f"{QEMU} is not installed; run: sudo apt-get install qemu-system-x86")
    if not any(map(os.path.exists, UDEVD)):
        raise LabError("udev is not installed, and a guest without it loses all output; run: sudo apt-get install udev")
    if emulator is not None or not machine.incoherent:
        _require_devices(str(emulator or QEMU), machine.devices)


def _require_devices(qemu: str, devices: Sequence[str]) -> None:
    """Refuse a value of -device whose device *qemu* does not have; it would print a message and exit with 1."""
    for device in devices:
        name = device.partition(",")[0].removeprefix("driver=")
        if name not in _known_devices(qemu):
            if name in OWN_DEVICES:
                raise NoDeviceError(f"only the lab's emulator has the device {shown(name)}: use the incoherent machine")
            raise NoDeviceError(f"this QEMU has no device {shown(name)}; '{qemu} -device help' lists those that it has")


# One command asks twice: before a kernel is compiled, and when QEMU starts.
@functools.cache
def _known_devices(qemu: str) -> frozenset[str]:
    done = subprocess.run([qemu, "-device", "help"], capture_output=True, text=True, check=False)
    known = frozenset(_DEVICE_NAME.findall(done.stdout))
    if not known:
        why = done.stderr.strip() or f"exit status {done.returncode}"
        raise LabError(f"{qemu} does not list its devices: {why}")
    return known
