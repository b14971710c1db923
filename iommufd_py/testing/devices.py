# SPDX-License-Identifier: MIT
"""Choose a device for a test: one of the user's spare devices with the properties that the test asks for."""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from iommufd_py import pci
from iommufd_py.base.coherency import snoop_control
from iommufd_py.base.errors import DeviceError, SkipError
from iommufd_py.base.pci_address import PCI_DEVICES, normalize_bdf
from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.pci.lending import DeviceTakenError


@dataclass(frozen=True, slots=True)
class Candidate:
    """Properties of a device that can be read without opening it.

    Attributes:
        bdf: PCI address.
        ids: ``vendor:device``, hexadecimal.
        ecap: extended capability register of the VT-d unit in front of it; None without a VT-d.
        group: all devices of its IOMMU group, empty without an IOMMU.
    """

    bdf: str
    ids: str
    ecap: int | None
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequirements:
    """Properties that a test asks for; None permits any value.

    Attributes:
        vtd: whether the device is behind an Intel VT-d.
        snoop_control: ECAP.SC, whether its IOMMU can force DMA to snoop the CPU caches.
        own_group: whether the device is alone in its IOMMU group.
        ids: ``vendor:device``, hexadecimal.
    """

    vtd: bool | None = None
    snoop_control: bool | None = None
    own_group: bool | None = None
    ids: str | None = None

    def misfits(self, device: Candidate) -> list[str]:
        """Return the properties of *device* that differ from the requested ones; none if it fits."""
        has = {
            "vtd": device.ecap is not None,
            "snoop_control": snoop_control(device.ecap),
            "own_group": device.group == (device.bdf,),
            "ids": device.ids,
        }
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        return [f"{name} is {has[name]}" for name, value in asked.items() if value is not None and has[name] != value]


def pool_addresses(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the user's spare devices: IOMMUFD_BDF, or else IOMMUFD_BDFS with commas or spaces.

    Raises:
        DeviceError: one of them is not a PCI address.
    """
    name = "IOMMUFD_BDF" if environ.get("IOMMUFD_BDF") else "IOMMUFD_BDFS"
    try:
        return tuple(normalize_bdf(text) for text in re.split(r"[,\s]+", environ.get(name, "").strip()) if text)
    except DeviceError as failure:
        raise DeviceError(f"{name}: {failure}") from None


def candidate(bdf: str) -> Candidate:
    """Return the properties of a device.

    Raises:
        DeviceError: the device does not exist.
    """
    device = pci.pci_device(bdf)
    path = PCI_DEVICES / device.bdf
    ecap = attribute_text(path / "iommu/intel-iommu/ecap")
    return Candidate(
        bdf=device.bdf,
        ids=device.ids,
        ecap=int(ecap, 16) if ecap else None,
        group=tuple(entry.name for entry in entries(path / "iommu_group/devices")),
    )


class DevicePool:
    """The user's spare devices. A device is bound to vfio-pci when a test takes it, and given back at the end.

    One process at a time holds a device. Several processes, such as the workers of pytest-xdist, share the pool.
    """

    def __init__(self, addresses: Iterable[str] | None = None) -> None:
        self.addresses = tuple(pool_addresses(os.environ) if addresses is None else addresses)
        self._bound = contextlib.ExitStack()
        self._taken: set[str] = set()

    def take(self, wanted: DeviceRequirements) -> str:
        """Bind the first fitting device that no other process holds to vfio-pci, and return its address.

        Raises:
            SkipError: no device fits; the text has the reason for each.
            DeviceTakenError: other processes hold all fitting devices.
            DeviceError: a device does not exist or cannot be bound.
        """
        reasons = []
        taken: DeviceTakenError | None = None
        for bdf in self.addresses:
            misfits = wanted.misfits(candidate(bdf))
            if misfits:
                reasons.append(f"{bdf}: {', '.join(misfits)}")
                continue
            try:
                self._bind(bdf)
            except DeviceTakenError as failure:
                taken = failure
            else:
                return bdf
        if taken is not None:
            raise taken
        raise SkipError(f"no device given fits ({'; '.join(reasons)}): add one to IOMMUFD_BDFS")

    def _bind(self, bdf: str) -> None:
        if bdf not in self._taken:
            self._bound.enter_context(pci.vfio_bound(bdf))
            self._taken.add(bdf)

    def close(self) -> None:
        """Give every device back to its former driver. The next test that takes one binds it again."""
        self._taken.clear()
        self._bound.close()
