# SPDX-License-Identifier: MIT
"""Damaged records of the lab stop nothing else, and each is named with its remedy."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from iommufd_py.lab import cache, emulators, paths
from iommufd_py.lab.bisect.record import Record
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.warm.guests import WarmGuest, damaged_records, warm_guests

pytestmark = pytest.mark.usefixtures("empty_cache")

Cli = Callable[..., subprocess.CompletedProcess[str]]
RECIPE = cache.Recipe("stock", "7.3", "linux-source-7.3", "abc", "", "gcc")
# Text that is not JSON, another document, and values of other types.
CONTENTS = [b"", b"{", b"\xff\xfe", b"[" * 5000, b"9" * 5000, b"null", b"[]", b'"x"', b"{}", b'{"schema": "other/1"}']
VALUES = [None, 1, True, 1.5, [], {}, "\x1b[31m", ["a", 1]]


def spoiled(good: dict[str, Any]) -> list[bytes]:
    """Return the document in every damaged form: each value missing, or of another type."""
    found = list(CONTENTS)
    for key, right in good.items():
        for value in VALUES:
            if type(value) is not type(right) or value == "\x1b[31m":
                found.append(json.dumps(good | {key: value}).encode())
        found.append(json.dumps({name: value for name, value in good.items() if name != key}).encode())
    return found


def good_kernel(directory: Path) -> dict[str, Any]:
    directory.mkdir(parents=True)
    meta = {"schema": cache._SCHEMA, "recipe": asdict(RECIPE), "release": "7.3", "built_at": "2026-01-01"}
    (directory / "meta.json").write_text(json.dumps(meta))
    return meta


@pytest.mark.slow
def test_damaged_kernels_hide_no_other(cli: Cli) -> None:
    good_kernel(paths.kernels_dir() / "good")
    meta = good_kernel(paths.kernels_dir() / "bad")
    recipes = [
        json.dumps(meta | {"recipe": json.loads(one)}).encode() for one in spoiled(meta["recipe"])[len(CONTENTS) :]
    ]
    for content in spoiled(meta) + recipes:
        (paths.kernels_dir() / "bad/meta.json").write_bytes(content)
        assert [kernel.directory.name for kernel in cache.kernels()] == ["good"], content
        assert [one.name for one in cache.unusable()] == ["bad"], content
    listed = cli("lab", "kernel", "list")
    assert listed.returncode == 0
    remedy = re.search(r"bad holds no kernel of this version of the tool; 'iommufd (.*)' removes it", listed.stderr)
    assert remedy is not None, listed.stderr
    assert cli(*remedy[1].split()).returncode == 0
    assert cli("lab", "kernel", "list").stderr == ""


@pytest.mark.parametrize("config", ["future-abc", "debug-future-abc", "arch-abc"])
def test_a_kernel_of_a_newer_version_is_unusable(cli: Cli, config: str) -> None:
    """A newer version can know more additions to a configuration, and can share the cache with this one."""
    good_kernel(paths.kernels_dir() / "good")
    meta = good_kernel(paths.kernels_dir() / "newer")
    (paths.kernels_dir() / "newer/meta.json").write_text(
        json.dumps(meta | {"recipe": meta["recipe"] | {"config": config}})
    )
    assert [kernel.directory.name for kernel in cache.kernels()] == ["good"]
    assert [one.name for one in cache.unusable()] == ["newer"]
    listed = cli("lab", "kernel", "list")
    assert (listed.returncode, listed.stdout.count("linux-source-7.3")) == (0, 1), listed.stderr


def test_a_pipe_in_place_of_a_record_is_not_waited_for() -> None:
    for place in ("kernels/bad/meta.json", "guests/bad/guest.json"):
        file = paths.cache_root() / place
        file.parent.mkdir(parents=True)
        os.mkfifo(file)
    assert [one.name for one in cache.unusable()] == ["bad"]
    assert [one.name for one in damaged_records()] == ["bad"]


def test_damaged_emulators_are_none() -> None:
    recipe = emulators.EmulatorRecipe("a", "b", "c", "d", "e")
    meta = {"schema": emulators._SCHEMA, "recipe": asdict(recipe), "built_at": "2026-01-01"}
    directory = paths.emulators_dir() / "one"
    directory.mkdir(parents=True)
    (directory / "meta.json").write_text(json.dumps(meta))
    assert emulators.Emulator.load(directory) is not None
    for content in spoiled(meta):
        (directory / "meta.json").write_bytes(content)
        assert emulators.Emulator.load(directory) is None
        assert emulators.cached_emulator() is None


@pytest.mark.slow
def test_damaged_guests_are_named_and_kept(cli: Cli, tmp_path: Path) -> None:
    words = dict.fromkeys(("kernel", "kernel_name", "machine", "machine_name", "accel", "python"), "x")
    good = words | {"name": "one", "shares": ["/tmp"], "keeper": 1 << 30, "keeper_start": 1, "owner": 0}
    directory = paths.guests_dir() / "one"
    directory.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.mkdir()
    for content in [*spoiled(good), json.dumps(good | {"name": "../../victim"}).encode()]:
        (directory / "guest.json").write_bytes(content)
        assert WarmGuest.load(directory) is None, content
        assert warm_guests() == []
        assert damaged_records() == [directory]
    assert victim.exists()
    listed = cli("lab", "list")
    assert listed.returncode == 0
    remedy = re.search(r'is damaged: remove its files with "(rm -r .*)"', listed.stderr)
    assert remedy is not None, listed.stderr
    subprocess.run(remedy[1], shell=True, check=True)
    assert cli("lab", "list").stderr == ""
    directory.mkdir()
    good["shares"] = ["/tmp/a\nb", os.fsdecode(b"/tmp/\xe9")]  # Directories with such names exist.
    (directory / "guest.json").write_text(json.dumps(good))
    found = WarmGuest.load(directory)
    assert found is not None
    assert found.shares == tuple(good["shares"])
    assert warm_guests() == []  # its keeper does not run
    assert not directory.exists()


def test_damaged_record_of_a_bisection(tmp_path: Path) -> None:
    file = tmp_path / "a record.json"
    trial = {"commit": "a" * 40, "verdict": "good", "evidence": "\x1b[31m of a guest", "seconds": 1.5}
    good = {"guest": "vm", "trials": [trial]}
    file.write_text(json.dumps(good))
    assert Record(file).of("a" * 40) is not None
    # A whole number of seconds, and an evidence with any characters, are right.
    trials = [one for one in map(json.loads, spoiled(trial)[len(CONTENTS) :]) if one != trial | {"seconds": 1}]
    damaged = [good | {"trials": [one]} for one in trials if one.get("evidence") != "\x1b[31m"]
    for content in (*spoiled(good), *(json.dumps(one).encode() for one in damaged)):
        file.write_bytes(content)
        with pytest.raises(LabError, match="is damaged: remove it to begin anew with 'rm ") as refused:
            Record(file)
    subprocess.run(str(refused.value).partition("with '")[2].removesuffix("'"), shell=True, check=True)
    assert Record(file).trials == ()
