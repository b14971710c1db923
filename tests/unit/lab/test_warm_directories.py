# SPDX-License-Identifier: MIT
"""The directories of warm guests: what a killed process left goes, and what a process uses stays. Needs no guest."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py.lab import paths
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.warm.guests import WarmGuest, hold_directory, keeper_of, warm_guests
from iommufd_py.lab.warm.jobs import run_in_guest
from iommufd_py.lab.warm.keeper import _claim, _start_keeper
from tests.files import write_files
from tests.waiting import patience

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths.make(paths.guests_dir())
    return paths.guests_dir()


@pytest.mark.parametrize("words", [("list",), ("down",), ("kernel", "prune")])
def test_the_directory_of_a_guest_that_never_had_a_record_is_removed(
    cli: Cli, guests: Path, words: tuple[str, ...]
) -> None:
    write_files(guests, {"stock-um-1/spool/1.job": "", "bzImage-12/keeper.log": "killed", "notes/file": "", "file": ""})
    assert cli("lab", *words).returncode == 0
    assert sorted(path.name for path in guests.iterdir()) == ["file", "notes"]


def test_a_directory_stays_while_its_guest_starts(guests: Path) -> None:
    directory = guests / "stock-1"
    held = _claim(directory)
    assert held is not None
    keeper = None
    try:
        assert (warm_guests(), _claim(directory), hold_directory(directory)) == ([], None, None)
        keeper = _start_keeper(directory, held)
        os.close(held)  # as if this process was killed
        assert (warm_guests(), hold_directory(directory)) == ([], None)
        assert directory.exists()
    finally:
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            keeper.wait()
    assert warm_guests() == []
    assert not directory.exists()


def test_a_directory_without_its_lock_stays_while_its_keeper_runs(guests: Path) -> None:
    """The keeper of an older version holds no lock."""
    directory = guests / "stock-1"
    directory.mkdir()
    with open(os.devnull) as other, _start_keeper(directory, other.fileno()) as keeper:
        assert keeper.stdin is not None
        while keeper_of(directory) is None:
            assert keeper.poll() is None
        assert warm_guests() == []
        assert directory.exists()
        keeper.stdin.close()
    assert warm_guests() == []
    assert not directory.exists()


def test_a_directory_that_was_removed_cannot_be_held(guests: Path) -> None:
    directory = guests / "stock-1"
    assert hold_directory(directory) is None
    directory.mkdir()
    held = hold_directory(directory)
    assert held is not None
    os.close(held)


def test_a_command_does_not_wait_for_the_keeper(guests: Path) -> None:
    """The keeper holds the directory until its guest ends. Commands wait for one another only."""
    held = _claim(guests / "stock-1")
    assert held is not None
    guest = WarmGuest("stock-1", "", "", "", "", "uml", (), "", keeper=0, keeper_start=0, owner=0)
    with pytest.raises(LabError, match="the guest stock-1 ended before it could run the command"):
        run_in_guest(guest, ["true"], timeout=patience(1), waiting=lambda: pytest.fail("it waits for the keeper"))
    os.close(held)
