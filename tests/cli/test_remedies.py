# SPDX-License-Identifier: MIT
"""A remedy that the tool prints is followed, and the same command then succeeds."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]
IOMMUFD = str(Path(sys.executable).parent / "iommufd")


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=120)


def private_mounts_are_possible() -> bool:
    return os.geteuid() == 0 and shell("unshare -m mount -t tracefs nodev /sys/kernel/tracing").returncode == 0


@pytest.mark.skipif(not private_mounts_are_possible(), reason="needs root, and a kernel with tracefs")
def test_tracefs_that_is_not_mounted() -> None:
    """In a mount namespace of its own, so that this machine keeps its mounts."""
    trace = f"{shlex.quote(IOMMUFD)} trace --seconds 0.1"
    hidden = "while umount -l /sys/kernel/tracing 2>/dev/null; do :; done; umount -l /sys/kernel/debug 2>/dev/null"
    before = shell(f"unshare -m sh -c {shlex.quote(f'{hidden}; {trace}')}")
    assert before.returncode == 4
    remedy = re.search(r"tracefs is not mounted: (mount .*)$", before.stderr, re.MULTILINE)
    assert remedy is not None, before.stderr
    after = shell(f"unshare -m sh -c {shlex.quote(f'{hidden}; {remedy[1]} && {trace}')}")
    # A kernel without any IOMMU driver has none of the events.
    assert after.returncode == 0 or "this kernel has none of these events" in after.stderr, after.stderr


def test_unknown_device_names_the_list(cli: Cli) -> None:
    refused = cli("device", "show", "ffff:1f:1f.7")
    assert refused.returncode == 1
    remedy = re.search(r"'iommufd ([^']*)' shows", refused.stderr)
    assert remedy is not None
    listed = cli(*shlex.split(remedy[1]))
    assert listed.returncode == 0
    first = next((line.split()[0] for line in listed.stdout.splitlines()[1:]), None)
    if first is not None:
        assert cli("device", "show", first).returncode == 0


def test_unknown_guest_names_the_list(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused = cli("lab", "down", "no-such-guest")
    assert refused.returncode == 2
    remedy = re.search(r"'iommufd ([^']*)' ", refused.stderr)
    assert remedy is not None, refused.stderr
    assert cli(*shlex.split(remedy[1])).returncode == 0


def test_two_places_for_devices(cli: Cli) -> None:
    refused = cli("device", "restore")
    assert refused.returncode == 2
    assert "or say --all" in refused.stderr
    assert cli("device", "restore", "--all", "--dry-run").returncode == 0
