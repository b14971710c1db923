# SPDX-License-Identifier: MIT
"""The disk space of the lab can be measured and freed, and no other user can write to its directories."""

import fcntl
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from iommufd_py.cli.lab import lab

from iommufd_py.lab import cache, paths, process, runs, space
from iommufd_py.lab.cache import Kernel, Recipe
from iommufd_py.lab.errors import LabError
from tests.programs import IOMMUFD

pytestmark = pytest.mark.usefixtures("empty_cache")

RECIPE = Recipe(variant="stock", series="7.3", source="linux 7.3.4", config="c", patches="", compiler="gcc")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lab, arguments, catch_exceptions=False)


def publish(recipe: Recipe, built_at: str) -> Kernel:
    image = paths.cache_root().with_name("image")
    image.write_bytes(bytes(8192))
    return cache.publish(recipe, {"bzImage": image}, release="7.3.4", built_at=built_at)


def test_superseded_kernels_are_removed_and_the_newest_of_each_kind_stays() -> None:
    old = publish(replace(RECIPE, compiler="gcc 1"), "2026-01-01T00:00:00+0000")
    new = publish(replace(RECIPE, compiler="gcc 2"), "2026-01-02T00:00:00+0000")
    other_series = publish(replace(RECIPE, series="7.2"), "2025-01-01T00:00:00+0000")
    patched = publish(replace(RECIPE, variant="patched"), "2025-01-01T00:00:00+0000")
    debug = publish(replace(RECIPE, config="debug-c"), "2025-01-01T00:00:00+0000")
    dry = invoke("kernel", "prune", "--dry-run")
    assert (dry.exit_code, dry.stdout.splitlines()) == (0, [str(old.directory)])
    assert old.image.exists()
    assert invoke("kernel", "prune").stdout.splitlines() == [str(old.directory)]
    left = {kernel.recipe.key for kernel in cache.kernels()}
    assert left == {kernel.recipe.key for kernel in (new, other_series, patched, debug)}
    assert invoke("kernel", "prune").stdout == ""


def test_a_kernel_that_is_replaced_is_complete_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of the removal of the old one left its record without its image."""
    old = publish(RECIPE, "2026-01-01T00:00:00+0000")
    whole = shutil.rmtree

    def interrupted(directory: Path, *arguments: Any, **options: Any) -> None:
        if Path(directory, old.image.name).exists():
            Path(directory, old.image.name).unlink()
            raise KeyboardInterrupt
        whole(directory, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(RECIPE, "2026-01-02T00:00:00+0000")
    assert cache.kernels() == []
    cache.remove_stale()
    assert list(paths.kernels_dir().iterdir()) == []


@pytest.mark.slow
def test_several_processes_remove_the_same_kernel() -> None:
    kernel = publish(RECIPE, "2026-01-01T00:00:00+0000")
    for number in range(5000):
        (kernel.directory / str(number)).touch()
    removing = [
        subprocess.Popen([IOMMUFD, "lab", "kernel", "prune", "--all"], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    endings = [(one.communicate()[1].splitlines()[0].partition(":")[0], one.returncode) for one in removing]
    assert endings == [("removed", 0)] * 3
    assert list(paths.kernels_dir().iterdir()) == []


def test_as_many_kernels_as_wanted_are_kept() -> None:
    kernels = [publish(replace(RECIPE, compiler=str(day)), f"2026-01-0{day}T00:00:00+0000") for day in range(1, 5)]
    assert space.superseded_kernels(3) == [kernels[0]]
    assert invoke("kernel", "prune", "--keep", "2").exit_code == 0
    assert cache.kernels() == [kernels[3], kernels[2]]


def test_all_removes_kernels_sources_and_objects_but_not_under_a_build() -> None:
    publish(RECIPE, "2026-01-01T00:00:00+0000")
    (paths.sources_dir() / "linux-source-7.3_1").mkdir(parents=True)
    objects = paths.work_dir() / "build/0123/stock/obj"
    objects.mkdir(parents=True)
    lock = paths.work_dir() / "build/0123/lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="is in use by a build: wait for its end"):
            invoke("kernel", "prune", "--all")
        assert objects.exists()
    # The remedy is right: the same command then succeeds.
    assert invoke("kernel", "prune", "--all").exit_code == 0
    assert cache.kernels() == []
    assert not objects.exists()
    assert not (paths.sources_dir() / "linux-source-7.3_1").exists()


def test_all_removes_what_an_interrupted_bisection_or_a_killed_build_of_the_emulator_left() -> None:
    clone, half = paths.work_dir() / "bisect/0123/tree", paths.work_dir() / "emulator/build-4567"
    for directory in (clone, half):
        directory.mkdir(parents=True)
    with (paths.work_dir() / "bisect/0123.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="is in use by a build: wait for its end"):
            invoke("kernel", "prune", "--all")
        assert clone.exists()
    assert invoke("kernel", "prune", "--all").exit_code == 0
    assert not clone.exists()
    assert not half.exists()
    assert str(clone.parent) not in invoke("kernel", "prune", "--all", "--dry-run").stdout


@pytest.mark.parametrize("user", ["sources", "work/emulator"])
def test_all_removes_the_lists_of_apt_but_not_while_a_source_is_fetched(user: str) -> None:
    lists = paths.work_dir() / "apt/0/state/lists"
    lists.mkdir(parents=True)
    lock = paths.cache_root() / user / "lock"
    with process.locked(lock, lambda: None):
        with pytest.raises(
            LabError, match=r"work/apt is in use by a build: wait for its end, and try again \(and 1 more directory\)"
        ):
            invoke("kernel", "prune", "--all")
        assert lists.exists()
    assert str(paths.work_dir() / "apt") in invoke("kernel", "prune", "--all").stdout.splitlines()
    assert not lists.exists()
    assert str(paths.work_dir() / "apt") not in invoke("kernel", "prune", "--all", "--dry-run").stdout


def test_all_removes_the_results_of_mutants() -> None:
    results = paths.mutants_dir() / "0123"
    results.mkdir(parents=True)
    (results / "4567.json").touch()
    assert str(paths.mutants_dir()) in invoke("kernel", "prune", "--all").stdout.splitlines()
    assert list(paths.mutants_dir().iterdir()) == []
    assert str(paths.mutants_dir()) not in invoke("kernel", "prune", "--all", "--dry-run").stdout


def test_the_lists_of_apt_are_removed_without_a_lock_of_a_user() -> None:
    (paths.work_dir() / "apt/0").mkdir(parents=True)
    assert invoke("kernel", "prune", "--all").stdout.splitlines() == [str(paths.work_dir() / "apt")]
    assert [path.name for path in paths.work_dir().iterdir()] == ["apt"]


def test_finished_runs_are_removed_and_those_that_go_on_stay() -> None:
    for index in range(3):
        (paths.runs_dir() / f"20000101-000000-{index:06}-99999999").mkdir(parents=True)
    mine = paths.runs_dir() / f"20000101-000000-000009-{os.getpid()}"
    mine.mkdir()
    assert len(invoke("runs", "prune", "--keep", "1").stdout.splitlines()) == 2
    assert {path.name[16:22] for path in paths.runs_dir().iterdir()} == {"000002", "000009"}
    invoke("runs", "prune")
    assert list(paths.runs_dir().iterdir()) == [mine]


def test_runs_of_a_container_go_on() -> None:
    """A container with the same cache has process ids of its own, and so has another machine with the same home."""
    program = (
        "import os, sys; from unittest.mock import patch; from iommufd_py.lab import runs\n"
        "with patch('os.getpid', lambda: 99999999): print(runs.new_run_directory(), flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        directory = Path(run.stdout.readline().strip())
        assert directory.name.endswith("-99999999") and directory.parent == paths.runs_dir()
        assert invoke("runs", "prune").stdout == ""
        run.communicate()
    assert invoke("runs", "prune").stdout.splitlines() == [str(directory)]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("runs", "prune"), "runs/20000101-000000-000000-99999999"),
        (("kernel", "prune", "--all"), "kernels/0123"),
        (("kernel", "prune", "--all"), "work/build/0123"),
    ],
)
def test_a_directory_that_stays_does_not_count_as_removed(arguments: tuple[str, ...], place: str) -> None:
    """A file system is mounted below a directory; the directories after it are removed."""
    after = (paths.cache_root() / place).with_name("20000101-000000-000001-99999999")
    for directory in ((paths.cache_root() / place) / "mnt", after):
        directory.mkdir(parents=True)
    prune = shlex.join([IOMMUFD, "lab", *arguments])
    script = f"mount -t tmpfs none {shlex.quote(str(paths.cache_root() / place / 'mnt'))} && exec {prune}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (1, [str(after)])
    counted, error = done.stderr.splitlines()
    assert counted == "removed: 1 directory"
    assert re.fullmatch(r"iommufd: error: (/.*) cannot be removed: .* busy \(.*\); remove it by other means", error)


def test_files_that_are_no_runs_stay() -> None:
    (paths.runs_dir() / "notes").mkdir(parents=True)
    (paths.runs_dir() / "file").touch()
    done = invoke("runs", "prune")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "removed: 0 directories\n")
    assert len(list(paths.runs_dir().iterdir())) == 2


def test_a_kernel_without_its_record_is_listed_and_removed() -> None:
    kernel = publish(RECIPE, "2026-01-01T00:00:00+0000")
    (kernel.directory / "meta.json").unlink()
    assert "holds no kernel of this version" in invoke("kernel", "list").stderr
    assert invoke("kernel", "prune", "--all").stdout.splitlines() == [str(kernel.directory)]
    assert not kernel.directory.exists()


def test_nothing_to_remove_is_no_error() -> None:
    assert invoke("runs", "prune").exit_code == invoke("kernel", "prune", "--all").exit_code == 0
    assert space.used() == []


@pytest.mark.parametrize("arguments", [("kernel", "prune", "--all", "--keep", "2"), ("kernel", "prune", "--keep", "0")])
def test_contradictions_are_refused(arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_sizes_are_known_while_a_build_removes_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a file that is gone du(1) complains, and it ends with status 1."""
    publish(RECIPE, "2026-01-01T00:00:00+0000")
    du = tmp_path / "du"
    du.write_text('#!/bin/sh\n/usr/bin/du "$@" /temporary-object\n')
    du.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    (found,) = space.used()
    assert (found.kind, found.disk_bytes > 8192) == ("kernels", True)
    du.write_text("#!/bin/sh\necho \"du: cannot read directory '$1': Permission denied\" >&2\nexit 1\n")
    with pytest.raises(LabError, match=r"cannot measure the cache: du: cannot read directory .*: Permission denied"):
        space.used()


def test_sizes_are_those_of_the_disk() -> None:
    publish(RECIPE, "2026-01-01T00:00:00+0000")
    (found,) = space.used()
    assert found.kind == "kernels"
    blocks = sum(path.lstat().st_blocks for path in (paths.kernels_dir(), *paths.kernels_dir().rglob("*")))
    assert found.disk_bytes == 512 * blocks > 0
    shown = json.loads(invoke("doctor", "--json").stdout)["findings"]
    (text,) = [one["text"] for one in shown if one["subject"] == "cache"]
    assert text == f"0.0 GB in {paths.cache_root()}"


@pytest.mark.parametrize("name", ["", "kernels"])
def test_cache_that_others_can_change_is_not_trusted(name: str) -> None:
    directory = paths.cache_root() / name
    directory.mkdir(parents=True)
    paths.cache_root().chmod(0o755)
    directory.chmod(0o777)
    with pytest.raises(LabError, match="is not trusted, because another user can change it") as refused:
        invoke("kernel", "list")
    # The remedy is right: the same command then succeeds.
    remedy = str(refused.value).rpartition("with '")[2].removesuffix("'")
    assert os.system(remedy) == 0
    assert invoke("kernel", "list").exit_code == 0


def test_a_cache_that_is_made_without_a_umask_is_only_for_its_owner() -> None:
    before = os.umask(0)
    try:
        kernel = publish(RECIPE, "2026-01-01T00:00:00+0000")
    finally:
        os.umask(before)
    assert paths.cache_root().stat().st_mode & 0o777 == 0o700
    assert cache.kernels() == [kernel]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_cache_of_another_user_is_not_trusted() -> None:
    root = paths.cache_root()
    root.mkdir(parents=True)
    os.chown(root, 12345, 12345)
    with pytest.raises(LabError, match="is not trusted"):
        invoke("runs", "prune")


# Root may read everything, unless it has no capabilities.
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")


@pytest.mark.parametrize(
    ("name", "words", "mode"),
    [
        ("kernels", ["kernel", "list"], 0o000),
        ("kernels", ["kernel", "prune"], 0o444),
        ("guests", ["list"], 0o111),
        ("runs", ["runs", "prune"], 0o000),
    ],
)
def test_a_directory_that_cannot_be_read_is_not_an_empty_one(name: str, words: list[str], mode: int) -> None:
    directory = paths.cache_root() / name
    directory.mkdir(parents=True)
    directory.chmod(mode)
    limited = () if os.geteuid() else WITHOUT_CAPABILITIES
    done = subprocess.run([*limited, IOMMUFD, "lab", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"iommufd: error: {directory} cannot be read: Permission denied; set XDG_CACHE_HOME to a ")


def test_a_file_where_a_directory_belongs() -> None:
    paths.cache_root().mkdir(parents=True)
    (paths.cache_root() / "kernels").touch()
    with pytest.raises(LabError, match="kernels cannot be read: Not a directory; set XDG_CACHE_HOME"):
        invoke("kernel", "list")


def test_files_of_the_lab_are_never_writable_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        invoke("kernel", "list")
        (paths.runs_dir() / "one").mkdir(parents=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.runs_dir().stat().st_mode) == 0o755


def test_a_cache_that_cannot_be_made_says_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    with pytest.raises(LabError, match=r"cannot be created: .*; set XDG_CACHE_HOME to a directory of your own"):
        runs.new_run_directory()


@pytest.mark.parametrize("words", [["kernel", "list"], ["kernel", "prune"], ["list"], ["runs", "prune"]])
@pytest.mark.parametrize("place", ["/dev/null", "/etc/passwd"])
def test_a_cache_below_a_file_is_not_empty(monkeypatch: pytest.MonkeyPatch, place: str, words: list[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    with pytest.raises(LabError, match="cannot be read: Not a directory; set XDG_CACHE_HOME"):
        invoke(*words)


def test_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 123456)
    with pytest.raises(LabError, match="has no home directory: set HOME, or XDG_CACHE_HOME"):
        paths.cache_root()


def test_program_that_starts_every_process_of_the_lab_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="env is not on PATH, and no process of the lab starts without it"):
        process.start(["true"])
