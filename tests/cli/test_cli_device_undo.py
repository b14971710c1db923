# SPDX-License-Identifier: MIT
"""`iommufd device bind` and `unbind` take all functions or none. Tests in the lab take real ones."""

import signal

import pytest
from iommufd_py.cli.device import _take_all

from iommufd_py import DeviceError, pci
from iommufd_py.pci import SysfsWrite
from iommufd_py.pci.sysfs_write import override_write

FIRST, SECOND, THIRD = "0000:00:10.0", "0000:00:11.0", "0000:00:12.0"


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The functions that are taken now. While one is given back, the user presses Ctrl-C once more."""
    taken: set[str] = set()

    def restore(address: str) -> None:
        taken.remove(address)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pci, "recall", lambda address: address if address in taken else None)
    monkeypatch.setattr(pci, "restore", restore)
    return taken


def plans(*addresses: str) -> dict[str, tuple[SysfsWrite, ...]]:
    return {address: (override_write(address, "vfio-pci"),) for address in addresses}


def test_a_signal_right_after_a_change_leaves_nothing_taken(taken: set[str]) -> None:
    def take(address: str, *, force: bool) -> None:
        taken.add(address)
        if address == THIRD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _take_all(plans(FIRST, SECOND, THIRD), take, force=False)
    assert taken == set()


def test_a_function_that_cannot_be_taken_leaves_nothing_taken(taken: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pci, "restore", taken.remove)

    def take(address: str, *, force: bool) -> None:
        if address == SECOND:
            raise DeviceError("it has no driver vfio-pci")
        taken.add(address)

    with pytest.raises(DeviceError, match="no driver vfio-pci"):
        _take_all(plans(FIRST, SECOND), take, force=False)
    assert taken == set()
    _take_all(plans(FIRST, THIRD), take, force=False)
    assert taken == {FIRST, THIRD}


def test_a_function_that_was_on_vfio_pci_before_stays_there(taken: set[str]) -> None:
    def take(address: str, *, force: bool) -> None:
        if address == SECOND:
            raise DeviceError("in use")

    taken.add(FIRST)
    with pytest.raises(DeviceError, match="in use"):
        _take_all({FIRST: (), **plans(SECOND)}, take, force=False)
    assert taken == {FIRST}
