# SPDX-License-Identifier: MIT
"""A remedy that the tool prints is followed, and the same command then succeeds."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from iommufd_py.results import document
from tests.programs import IOMMUFD
from tests.unit.results.bench_results import POINT, process_run, result
from tests.waiting import patience

Cli = Callable[..., subprocess.CompletedProcess[str]]


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=patience(24))


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


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_cache_that_another_user_can_change(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "a cache; 'quoted'"
    (cache / "iommufd-py").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for spoil in (lambda path: os.chown(path, 65534, 65534), lambda path: path.chmod(0o777)):
        spoil(cache / "iommufd-py")
        refused = cli("lab", "kernel", "list")
        assert refused.returncode == 1
        remedy = re.search(r"or take it over with '(chown .*)'$", refused.stderr.strip())
        assert remedy is not None, refused.stderr
        assert shell(remedy[1]).returncode == 0
        assert cli("lab", "kernel", "list").returncode == 0


def test_results_that_are_not_comparable(cli: Cli, tmp_path: Path) -> None:
    """--force compares them despite that. A run with the same options gives rows to compare."""
    before, elsewhere, large = (tmp_path / name for name in ("before", "elsewhere", "large"))
    document.save(result(process_run([1000, 1100, 1200], [500, 600, 700])), before)
    document.save(result(process_run([1000, 1100, 1200], [500, 600, 700]), cpu="another CPU"), elsewhere)
    document.save(result(process_run(), point=replace(POINT, size_bytes=1 << 30)), large)
    refused = cli("bench", "compare", str(before), str(elsewhere))
    assert refused.returncode == 1
    assert "or use --force" in refused.stderr
    assert cli("bench", "compare", "--force", str(before), str(elsewhere)).returncode == 0
    refused = cli("bench", "compare", str(before), str(large))
    assert refused.returncode == 1
    assert "run the benchmark with the same options for both" in refused.stderr
    assert cli("bench", "compare", str(large), str(large)).returncode == 0


def test_plot_without_an_output(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    document.save(result(process_run([1000, 1100, 1200], [500, 600, 700])), file)
    refused = cli("bench", "plot", str(file))
    assert refused.returncode == 2
    remedy = re.search(r"name the output: (--\w+) FILE", refused.stderr)
    assert remedy is not None, refused.stderr
    page = tmp_path / "page.html"
    assert cli("bench", "plot", str(file), remedy[1], str(page)).returncode == 0
    assert page.stat().st_size > 1000


def test_unknown_scenario_names_the_list(cli: Cli) -> None:
    refused = cli("validate", "--explain", "no-such-scenario")
    assert refused.returncode == 2
    assert "--list" in refused.stderr, refused.stderr
    listed = cli("validate", "--list")
    name = listed.stdout.splitlines()[1].split()[0]  # The first line has the headings.
    assert cli("validate", "--explain", name).returncode == 0
