# SPDX-License-Identifier: MIT
"""A remedy that the tool prints is followed, and the same command then succeeds."""

import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from iommufd_py.results import document
from tests.following import Change, Cli, end_with, follow, found_in, leave_out, without
from tests.programs import IOMMUFD
from tests.unit.results.bench_results import POINT, process_run, result
from tests.waiting import patience


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


@pytest.mark.skipif(not private_mounts_are_possible(), reason="mounts, in a mount namespace of its own")
def test_disk_without_room_for_a_kernel(tmp_path: Path) -> None:
    """The temporary directory is on another disk than the small one."""
    small, doctor = tmp_path / "small", f"{shlex.quote(IOMMUFD)} lab doctor"
    small.mkdir()
    before = shell(f"unshare -m sh -c 'mount -t tmpfs -o size=64M none {small} && XDG_CACHE_HOME={small} {doctor}'")
    remedy = r"^to fix: free some space, or set (XDG_CACHE_HOME) to a directory on another disk$"
    found = re.search(remedy, before.stdout, re.MULTILINE)
    assert (before.returncode, found is not None) == (1, True), before
    assert found is not None
    after = shell(f"{found[1]}={tmp_path} {doctor}")
    assert not re.search(remedy, after.stdout, re.MULTILINE), after


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
@pytest.mark.parametrize("linked", [False, True])
def test_cache_that_another_user_can_change(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    cache = tmp_path / "a cache; 'quoted'"
    if linked:  # The cache is large, and may be on another disk.
        (tmp_path / "elsewhere").mkdir()
        cache.mkdir()
        (cache / "iommufd-py").symlink_to(tmp_path / "elsewhere")
    else:
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


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A result, and places where nothing can be written; NEW is none of them."""
    for name in ("directory", "shared"):
        (tmp_path / name).mkdir()
    places = {name: tmp_path / name.lower() for name in ("RUN", "PRESENT", "DIRECTORY", "NEW", "EMPTY", "EXPORTED")}
    document.save(result(process_run([1000, 1100, 1200], [500, 600, 700])), places["RUN"])
    places["PRESENT"].touch()
    places["EMPTY"].write_text("{}")
    places["EXPORTED"].write_text('{"benchmarks": []}')
    return {name: str(path) for name, path in places.items()}


@pytest.mark.parametrize(
    ("command", "remedy", "choice"),
    [
        ("report-bug --output PRESENT", "remove it, or choose another file with --output$", "NEW"),
        ("bench plot RUN --html DIRECTORY", "is a directory: name a file$", "NEW"),
        ("bench plot RUN --html RUN", "which would be lost: choose another output$", "NEW"),
        ("bench plot RUN --html /proc/page", "cannot be written: .*; choose another file$", "NEW"),
        ("bench plot RUN --directory -", "- is not a directory: choose another name$", "NEW"),
        ("bench plot RUN --directory /proc/pictures", "cannot be created: .*; choose another$", "NEW"),
        ("bench show /dev/zero", "is larger than 256 MiB: give another file$", "RUN"),
        ("bench show EXPORTED", "pyperf file, .*: give a file that 'iommufd bench run --output' wrote$", "RUN"),
        ("bench show EMPTY", "not a file of this tool: give a file that 'iommufd bench run --output' wrote$", "RUN"),
        ("validate --list --only no-such", "no scenario matches 'no-such'; --list shows all of them$", "map-coherent"),
    ],
)
def test_another_choice(cli: Cli, files: dict[str, str], command: str, remedy: str, choice: str) -> None:
    words = [files.get(word, word) for word in command.split()]
    follow(cli, words, remedy, end_with(files.get(choice, choice)))


def test_two_choices_for_a_present_file(cli: Cli, tmp_path: Path) -> None:
    """The message names the file that must go."""
    tree, other = tmp_path / "tree", tmp_path / "other"
    assert cli("fleet", "tmt-files", str(tree)).returncode == 0
    words = ("fleet", "tmt-files", str(tree))
    follow(cli, words, r"already exists: remove it, or name another directory$", end_with(str(other)))
    while (refused := cli(*words)).returncode:
        Path(found_in(refused, rf"({re.escape(str(tree))}/\S+) already exists: remove it")[1]).unlink()
    archive = tmp_path / "bug.tar.gz"
    archive.touch()
    refused = cli("report-bug", "--output", str(archive))
    Path(found_in(refused, r"(/\S+) exists: remove it")[1]).unlink()
    assert cli("report-bug", "--output", str(archive)).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user")
def test_link_of_another_user(cli: Cli, files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "shared").chmod(0o1777)
    link = tmp_path / "shared" / "page.html"
    link.symlink_to(files["NEW"])
    os.chown(link, 65534, 65534, follow_symlinks=False)
    remedy = "another user put into a directory that everybody can write; choose another file$"
    follow(cli, ["bench", "plot", files["RUN"], "--html", str(link)], remedy, end_with(files["NEW"]))


@pytest.mark.parametrize(
    ("command", "remedy", "change"),
    [
        (
            "device restore 0000:00:00.0 --all --dry-run",
            r"name devices or say (--all), not both$",
            without("0000:00:00.0"),
        ),
        ("lab down a-guest --all", r"name guests or say (--all), not both$", without("a-guest")),
        ("fleet tags --exporter --json", r"leave out (--json) and --device$", leave_out),
        ("validate --list --only x --only map-*", r"(--only) is given more than once: give one$", leave_out),
    ],
)
def test_options_that_contradict_each_other(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, remedy: str, change: Change
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    follow(cli, command.split(), remedy, change)


def test_results_of_two_machines_in_one_directory(cli: Cli, tmp_path: Path) -> None:
    for name, environment in (("1", {}), ("2", {"cpu": "another CPU"})):
        document.save(
            result(process_run([1000, 1100, 1200], [500, 600, 700]), **environment), tmp_path / f"{name}.json"
        )
    found = found_in(
        cli("bench", "history", str(tmp_path)),
        r"1\.json and (2\.json) cannot be compared, .*; keep the results of each machine in a directory of its own$",
    )
    (tmp_path / "own").mkdir()
    (tmp_path / found[1]).rename(tmp_path / "own" / found[1])
    for directory in (tmp_path, tmp_path / "own"):
        assert cli("bench", "history", str(directory)).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="drops a capability of root")
def test_root_is_not_told_to_become_root() -> None:
    """Without CAP_SYS_PTRACE a process may not look into one that has more capabilities."""
    with subprocess.Popen(["sleep", "1000"]) as other:
        done = shell(f"setpriv --bounding-set -sys_ptrace {shlex.quote(IOMMUFD)} explain --pid {other.pid}")
        other.kill()
    assert done.returncode == 4
    assert "may not be read: this process is root, so a container, a service or a security module" in done.stderr
