# SPDX-License-Identifier: MIT
"""A labgrid lab whose machines are guests of the project's lab."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from iommufd_py.lab import paths
from tests.fleet.lab import Host, Lab
from tests.programs import IOMMUFD
from tests.waiting import patience, wait_until


@contextlib.contextmanager
def lab_of_guests(
    directory: Path, monkeypatch: pytest.MonkeyPatch, places: Mapping[str, Mapping[str, str]]
) -> Iterator[Lab]:
    """A lab with a guest for each place, whose tags name its kernel and its machine (by default a native one).

    The lab has an empty cache of its own, but the kernels of the real cache.
    """
    kernels = paths.kernels_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    paths.cache_root().mkdir(parents=True)
    paths.kernels_dir().symlink_to(kernels)
    found = Lab(directory)
    try:
        found.write_places(places)
        found.start_coordinator()
        for name, tags in places.items():
            found.add_host(name, tags["kernel"], tags.get("machine", "native"))
        found.start_exporter()
        yield found
    finally:
        try:
            for host in found.hosts.values():
                _end_guest(host)
        finally:
            found.stop()


def _end_guest(host: Host) -> None:
    """End a guest, even if it is stopped."""
    if _runs(host.keeper):
        freeze(host, signal.SIGCONT)
        os.kill(host.keeper, signal.SIGTERM)
        wait_until(lambda: not _runs(host.keeper))


def _runs(pid: int) -> bool:
    """Return whether a process runs. One that has ended but whose parent has not asked for its status does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def freeze(host: Host, number: signal.Signals = signal.SIGSTOP) -> None:
    """Stop all processes of a guest, so that it behaves like a machine that hangs."""
    for process in psutil.Process(host.keeper).children(recursive=True):
        process.send_signal(number)


def report_of(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run `iommufd fleet report`."""
    return subprocess.run(
        [IOMMUFD, "fleet", "report", str(directory), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=patience(120),
    )
