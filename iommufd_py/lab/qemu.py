# SPDX-License-Identifier: MIT
"""Compose a QEMU command line with virtme-ng, and run it so that nothing of it outlives this process."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import BinaryIO

from iommufd_py.lab.errors import LabError
from iommufd_py.lab.guest import OVERLAYS
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.process import start, stop

__all__ = ["QEMU", "UDEVD", "compose", "interact", "supervise"]

QEMU = "qemu-system-x86_64"
UDEVD = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd")

# The guest's root does not change while it runs: let the guest cache names and pages.
_ROOT_FLAGS = "rootflags=version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose"


def compose(kernel: Path, machine: Machine, virtme_args: Sequence[str], qemu_args: Sequence[str]) -> list[str]:
    """Return the QEMU command line for *machine*, as virtme-ng would start it.

    virtme-ng contributes the host's root file system as the guest's root, its small init, and the channels for output
    and exit status. ``virtme-run`` is asked and not ``vng``: a user's ``vng`` configuration would change the machine.

    Raises:
        LabError: virtme-ng, QEMU or udev is not installed, or virtme-ng refuses.
    """
    if importlib.util.find_spec("virtme") is None:
        raise LabError("virtme-ng is not installed in this Python environment; run: pip install 'iommufd-py[lab]'")
    if shutil.which(QEMU) is None:
        raise LabError(f"{QEMU} is not installed; run: sudo apt-get install qemu-system-x86")
    if not any(map(os.path.exists, UDEVD)):
        raise LabError("udev is not installed, and a guest without it loses all output; run: sudo apt-get install udev")
    argv = [sys.executable, "-m", "virtme.commands.run", "--dry-run", "--show-command", "--kimg", str(kernel)]
    argv += ["--mods", "none", "--disable-microvm", "--force-9p", "--name", "iommufd-lab"]
    argv += ["--memory", f"{machine.memory_bytes >> 20}M", "--cpus", str(machine.cpus)]
    if machine.accel == "tcg":
        argv.append("--disable-kvm")
    for directory in OVERLAYS:
        argv += ["--overlay-rwdir", directory]
    for arg in (*machine.kernel_args(), _ROOT_FLAGS, "loglevel=7", "printk.time=1", "printk.devkmsg=on"):
        argv += ["--kopt", arg]
    argv += [*virtme_args, "--qemu-opts", *machine.qemu_args(), *qemu_args]
    # It looks at its standard streams to choose the guest's channels: give it pipes, as QEMU will get.
    done = subprocess.run(argv, input="", capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        why = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise LabError(f"virtme-ng cannot compose the virtual machine: {why}")
    return shlex.split(done.stdout)


def supervise(argv: Sequence[str], timeout: float, stdout: BinaryIO, stderr: BinaryIO) -> int | None:
    """Run *argv* to its end, passing its output on as it comes.

    Return its exit status, or None when it was killed after *timeout* seconds.

    Its output goes through pipes, as QEMU opens its standard streams again by path: given a file directly it would
    truncate it, and two of its channels would overwrite one another.
    """
    deadline = time.monotonic() + timeout
    stdin = subprocess.DEVNULL if os.isatty(0) else None
    child = start(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    chunks: SimpleQueue[tuple[BinaryIO, bytes]] = SimpleQueue()
    try:
        sources = ((child.stdout, stdout), (child.stderr, stderr))
        for source, sink in sources:
            assert source is not None
            Thread(target=_drain, args=(os.dup(source.fileno()), sink, chunks), daemon=True).start()
        flowing = len(sources)
        while flowing:
            try:
                sink, data = chunks.get(timeout=max(deadline - time.monotonic(), 0))
            except Empty:
                return None
            if data:
                sink.write(data)
                sink.flush()
            else:
                flowing -= 1
        return child.wait()
    finally:
        stop(child)


def _drain(source: int, sink: BinaryIO, chunks: "SimpleQueue[tuple[BinaryIO, bytes]]") -> None:
    """Queue what comes from *source*, and at its end nothing.

    However slow the reader of our output is, QEMU must never wait for it: a guest's command may end, and the guest
    power off, with megabytes still in a virtqueue that QEMU then has no time to empty.
    """
    with open(source, "rb", buffering=0) as stream:
        while data := stream.read(1 << 16):
            chunks.put((sink, data))
    chunks.put((sink, b""))


def interact(argv: Sequence[str]) -> int:
    """Run *argv* on this terminal to its end and return its exit status; the terminal is as before afterwards."""
    settings = termios.tcgetattr(0)
    child = start(argv)
    try:
        return child.wait()
    finally:
        stop(child)
        termios.tcsetattr(0, termios.TCSAFLUSH, settings)
