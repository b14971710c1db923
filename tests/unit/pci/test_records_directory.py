# SPDX-License-Identifier: MIT
"""The directory of the records of taken devices: only one that nobody else can change is trusted."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import DeviceError
from iommufd_py.pci import state

ADDRESS = "0000:00:10.0"


def is_a_link(directory: Path) -> None:
    directory.with_name("elsewhere").mkdir()
    directory.symlink_to(directory.with_name("elsewhere"))


def is_a_link_to_nothing(directory: Path) -> None:
    directory.symlink_to(directory.with_name("nowhere"))


def is_writable(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)


@pytest.mark.skipif(os.geteuid() != 0, reason="the remedies give files to root")
@pytest.mark.parametrize("spoil", [is_a_link, is_a_link_to_nothing, Path.touch, is_writable])
def test_a_directory_that_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    directory = tmp_path / "records"
    monkeypatch.setattr(state, "_DIRECTORY", directory)
    spoil(directory)
    with pytest.raises(DeviceError) as refused:
        state.make_records_directory()
    remedy = re.search("'(.*)'", str(refused.value))
    assert remedy is not None
    assert os.system(remedy[1]) == 0
    state.make_records_directory()
    assert directory.is_dir()
    assert not directory.is_symlink()


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "_DIRECTORY", tmp_path)
    return tmp_path


def test_files_of_other_names_are_no_records(records: Path) -> None:
    """`device restore --all` failed because of them, and nothing could be given back by their names."""
    for name in ("foo", "..", "", "0000:00:1F.2", "00:1f.2", "0000:00:11.0 x", "a\nb", "\udcff", "0000:00:1f.2"):
        (records / f"{name}.json").write_text("{}")
    assert state.remembered() == ("0000:00:1f.2",)


@pytest.mark.parametrize("spoil", [is_a_link_to_nothing, Path.touch])
def test_a_directory_that_is_none_has_not_no_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    """`device restore --all` said nothing, or asked a root to allow something."""
    directory = tmp_path / "records"
    monkeypatch.setattr(state, "_DIRECTORY", directory)
    assert state.remembered() == ()
    assert state.recall(ADDRESS) is None
    spoil(directory)
    with pytest.raises(DeviceError, match=f"is a link or a file, .*: remove it with 'rm {directory}'"):
        state.remembered()
    if directory.is_file():
        with pytest.raises(DeviceError, match=f"is a link or a file, .*: remove it with 'rm {directory}'"):
            state.recall(ADDRESS)


def test_a_damaged_record_of_a_device_that_is_gone(records: Path) -> None:
    """The commands that give the device to a driver fail there."""
    file = records / "ffff:00:10.0.json"
    file.write_text("")
    with pytest.raises(DeviceError) as refused:
        state.recall("ffff:00:10.0")
    assert str(refused.value).endswith(f": the device does not exist any more: remove the record with 'rm {file}'")


def links_to_itself(file: Path) -> None:
    file.symlink_to(file)


@pytest.mark.parametrize("spoil", [os.mkfifo, os.mkdir, is_a_link_to_nothing, links_to_itself])
def test_a_pipe_in_place_of_a_record_is_not_waited_for(records: Path, spoil: Callable[[Path], None]) -> None:
    spoil(records / f"{ADDRESS}.json")
    with pytest.raises(DeviceError, match=r"\.json is not a regular file"):
        state.recall(ADDRESS)


def is_a_socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(file))


@pytest.mark.parametrize("spoil", [os.mkdir, is_a_socket, links_to_itself])
def test_something_else_with_the_name_of_a_file_is_in_the_way(records: Path, spoil: Callable[[Path], None]) -> None:
    """The remedy was free space, or none."""
    new, lock = records / f"{ADDRESS}.new", records / f"{ADDRESS}.lock"
    spoil(new)
    with pytest.raises(DeviceError, match=rf" \({new}\); remove that first$"):
        state.remember(ADDRESS, state.Remembered("nvme", ""))
    spoil(lock)
    with pytest.raises(DeviceError, match=rf" \({lock}\); remove that first$"):
        state.open_lock(ADDRESS)


def test_a_pipe_in_place_of_a_new_record_or_a_lock_is_not_waited_for(records: Path) -> None:
    os.mkfifo(records / f"{ADDRESS}.new")
    with pytest.raises(DeviceError, match=f"{ADDRESS} is not taken, because its driver cannot be recorded"):
        state.remember(ADDRESS, state.Remembered("nvme", ""))
    os.mkfifo(records / f"{ADDRESS}.lock")
    os.close(state.open_lock(ADDRESS))
