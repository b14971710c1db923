# SPDX-License-Identifier: MIT
"""The directory of the records of taken devices: only one that nobody else can change is trusted."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import DeviceError
from iommufd_py.pci import state


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
