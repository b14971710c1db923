# SPDX-License-Identifier: MIT
"""The history of `iommufd shell` is private, bounded, and never in a place of another user."""

import os
import stat
from pathlib import Path

import pytest
from iommufd_py.cli.shell import _history_file, _line_editing


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_history_is_private_whatever_the_umask(state: Path) -> None:
    before = os.umask(0)
    try:
        with _line_editing({}):
            pass
    finally:
        os.umask(before)
    file = state / "iommufd-py/history"
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_directory_that_others_can_write_is_not_used(state: Path) -> None:
    directory = state / "iommufd-py"
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    assert _history_file() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_nothing_is_made_in_the_home_of_another_user(state: Path) -> None:
    state.mkdir()
    os.chown(state, 12345, 12345)
    with _line_editing({}):
        pass
    assert list(state.iterdir()) == []


def test_relative_path_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history in the current directory would be in another one each time."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert _history_file() == home / ".local/state/iommufd-py/history"
    assert list(here.iterdir()) == []


def test_no_home_is_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 123456)
    assert _history_file() is None
