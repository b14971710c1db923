# SPDX-License-Identifier: MIT
"""The choice of a device for a test."""

import contextlib
from collections.abc import Iterator

import pytest

from iommufd_py import DeviceError, SkipError
from iommufd_py.pci.lending import DeviceTakenError
from iommufd_py.testing import devices
from iommufd_py.testing.devices import Candidate, DevicePool, DeviceRequirements, pool_addresses

COHERENT = Candidate("0000:01:00.0", "1234:11e8", 0xF00FCA, ("0000:01:00.0",))
NON_COHERENT = Candidate("0000:02:00.0", "1234:11e8", 0xF00F4A, ("0000:02:00.0", "0000:02:00.1"))
ELSEWHERE = Candidate("0000:03:00.0", "8086:15b7", None, ())


@pytest.mark.parametrize(
    ("environ", "addresses"),
    [
        ({}, ()),
        ({"IOMMUFD_BDF": "3b:00.0"}, ("0000:3b:00.0",)),
        ({"IOMMUFD_BDFS": "3b:00.0, 0000:5E:00.1 5f:00.0"}, ("0000:3b:00.0", "0000:5e:00.1", "0000:5f:00.0")),
        ({"IOMMUFD_BDF": "3b:00.0", "IOMMUFD_BDFS": "5e:00.1"}, ("0000:3b:00.0",)),
    ],
)
def test_pool(environ: dict[str, str], addresses: tuple[str, ...]) -> None:
    assert pool_addresses(environ) == addresses


def test_pool_of_nonsense() -> None:
    with pytest.raises(DeviceError, match="'eth0' is not a PCI address"):
        pool_addresses({"IOMMUFD_BDFS": "3b:00.0 eth0"})


@pytest.mark.parametrize(
    ("wanted", "device", "misfits"),
    [
        (DeviceRequirements(), ELSEWHERE, []),
        (DeviceRequirements(vtd=True), ELSEWHERE, ["vtd is False"]),
        (DeviceRequirements(vtd=True, snoop_control=True, own_group=True), COHERENT, []),
        (DeviceRequirements(snoop_control=False), NON_COHERENT, []),
        (
            DeviceRequirements(snoop_control=True, own_group=True),
            NON_COHERENT,
            ["snoop_control is False", "own_group is False"],
        ),
        (DeviceRequirements(snoop_control=False), ELSEWHERE, ["snoop_control is None"]),
        (DeviceRequirements(ids="8086:15b7"), COHERENT, ["ids is 1234:11e8"]),
    ],
)
def test_fit(wanted: DeviceRequirements, device: Candidate, misfits: list[str]) -> None:
    assert wanted.misfits(device) == misfits


def test_the_first_that_fits_is_taken_and_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {device.bdf: device for device in (COHERENT, NON_COHERENT, ELSEWHERE)}
    events: list[str] = []

    class Bound:
        def __init__(self, bdf: str) -> None:
            self.bdf = bdf

        def __enter__(self) -> None:
            events.append(f"bind {self.bdf}")

        def __exit__(self, *_: object) -> None:
            events.append(f"restore {self.bdf}")

    monkeypatch.setattr(devices, "candidate", known.__getitem__)
    monkeypatch.setattr(devices.pci, "vfio_bound", Bound)
    pool = DevicePool(known)
    assert pool.take(DeviceRequirements(snoop_control=False)) == NON_COHERENT.bdf
    assert pool.take(DeviceRequirements()) == COHERENT.bdf
    assert pool.take(DeviceRequirements(own_group=False)) == NON_COHERENT.bdf
    with pytest.raises(SkipError) as caught:
        pool.take(DeviceRequirements(ids="8086:0000"))
    for device in known.values():
        assert f"{device.bdf}: ids is {device.ids}" in str(caught.value)
    pool.close()
    assert events == [
        f"bind {NON_COHERENT.bdf}",
        f"bind {COHERENT.bdf}",
        f"restore {COHERENT.bdf}",
        f"restore {NON_COHERENT.bdf}",
    ]


def test_device_that_another_process_has_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {COHERENT.bdf}

    @contextlib.contextmanager
    def bound(bdf: str) -> Iterator[None]:
        if bdf in taken:
            raise DeviceTakenError(f"{bdf} is taken by pytest (process 5) now")
        yield

    monkeypatch.setattr(devices, "candidate", {one.bdf: one for one in (COHERENT, NON_COHERENT)}.__getitem__)
    monkeypatch.setattr(devices.pci, "vfio_bound", bound)
    pool = DevicePool([COHERENT.bdf, NON_COHERENT.bdf])
    assert pool.take(DeviceRequirements()) == NON_COHERENT.bdf
    with pytest.raises(DeviceTakenError, match="process 5"):
        pool.take(DeviceRequirements(own_group=True))
    pool.close()
