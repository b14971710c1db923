# SPDX-License-Identifier: MIT
"""PCI functions: what there is, and taking one for VFIO and giving it back."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iommufd_py.device import normalize_bdf
from iommufd_py.errors import DeviceError

__all__ = ["PciDevice", "bind_vfio", "list_devices", "pci_device", "restore", "vfio_bound"]

_BUS = Path("/sys/bus/pci")
_VFIO_PCI = "vfio-pci"
# Outlives a crash of this process, not a reboot: as long as a binding lasts.
_STATE = Path("/run/iommufd-py")


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One PCI function, as sysfs and the hardware database describe it now.

    Attributes:
        bdf: ``domain:bus:device.function``.
        ids: ``vendor:device``, hexadecimal.
        driver: bound driver, empty for none.
        iommu_group: number of the group, None without an IOMMU.
        cdev: name of the VFIO cdev, empty unless bound to vfio-pci.
        name: vendor and model, as far as udev knows them.
    """

    bdf: str
    ids: str
    driver: str
    iommu_group: int | None
    cdev: str
    name: str


def list_devices() -> tuple[PciDevice, ...]:
    """Return all PCI functions, by address."""
    import pyudev  # here, so that opening a device does not pay for listing them

    found = (_describe(device) for device in pyudev.Context().list_devices(subsystem="pci"))
    return tuple(sorted(found, key=lambda device: device.bdf))


def pci_device(bdf: str) -> PciDevice:
    """Return the function at *bdf*.

    Raises:
        DeviceError: there is none.
    """
    import pyudev

    address = normalize_bdf(bdf)
    try:
        return _describe(pyudev.Devices.from_name(pyudev.Context(), "pci", address))
    except pyudev.DeviceNotFoundError:
        raise DeviceError(f"there is no PCI device {address}: 'iommufd device list' shows those there are") from None


def _describe(device: Any) -> PciDevice:
    path = Path(device.sys_path)
    properties: Mapping[str, str] = device.properties
    group = path / "iommu_group"
    cdevs = sorted((path / "vfio-dev").glob("vfio*"))
    vendor, model = (properties.get(key, "") for key in ("ID_VENDOR_FROM_DATABASE", "ID_MODEL_FROM_DATABASE"))
    return PciDevice(
        bdf=path.name,
        ids=f"{_hex_id(path / 'vendor')}:{_hex_id(path / 'device')}",
        driver=_driver(path.name),
        iommu_group=int(group.resolve().name) if group.exists() else None,
        cdev=cdevs[0].name if cdevs else "",
        name=f"{vendor} {model}".strip(),
    )


def _hex_id(attribute: Path) -> str:
    return attribute.read_text().strip().removeprefix("0x")


def _device(bdf: str) -> Path:
    return _BUS / "devices" / bdf


def _driver(bdf: str) -> str:
    driver = _device(bdf) / "driver"
    return driver.resolve().name if driver.exists() else ""


def bind_vfio(bdf: str) -> None:
    """Take a function from its driver and bind it to vfio-pci, remembering what :func:`restore` needs.

    Without effect on one that is bound to vfio-pci already.

    Raises:
        DeviceError: there is no such function, sysfs refuses, or vfio-pci does not take it.
    """
    address = pci_device(bdf).bdf
    previous = _driver(address)
    if previous == _VFIO_PCI:
        return
    override = _read_override(address)
    with _explained(f"{address} cannot be bound to vfio-pci"):
        _STATE.mkdir(parents=True, exist_ok=True)
        # Written before anything changes, so that a crash in between can be undone.
        (_STATE / address).write_text(f"{previous}\n{override}\n")
        try:
            _rebind(address, _VFIO_PCI)
            if _driver(address) != _VFIO_PCI:
                raise DeviceError(
                    f"vfio-pci did not take {address}: is its driver there ('modprobe vfio-pci') and the IOMMU on "
                    "(intel_iommu=on)? The kernel log says more"
                )
        except BaseException:
            restore(address)
            raise


def restore(bdf: str) -> None:
    """Give a function back to the driver and override it had before :func:`bind_vfio`.

    Raises:
        DeviceError: it was not taken by bind_vfio, or sysfs refuses.
    """
    address = normalize_bdf(bdf)
    state = _STATE / address
    if not state.exists():
        raise DeviceError(f"{address} was not bound by 'iommufd device bind': nothing is known of its driver before")
    previous, override = state.read_text().splitlines()
    with _explained(f"{address} cannot be given back to {previous or 'no driver'}"):
        _unbind(address)
        _write(_device(address) / "driver_override", override)
        if previous:
            _write(_BUS / "drivers" / previous / "bind", address)
        state.unlink()


@contextlib.contextmanager
def vfio_bound(bdf: str) -> Iterator[None]:
    """Hold a function on vfio-pci and give it back to its driver, whatever happens; one already there stays there."""
    address = pci_device(bdf).bdf
    already = _driver(address) == _VFIO_PCI
    try:
        # Inside, as a signal can end it when the device is taken and before anybody knows.
        if not already:
            bind_vfio(address)
        yield
    finally:
        if not already and (_STATE / address).exists():
            restore(address)


def _rebind(address: str, driver: str) -> None:
    _unbind(address)
    # driver_override names one function; new_id would make the driver grab every function of that id.
    _write(_device(address) / "driver_override", driver)
    _write(_BUS / "drivers_probe", address)


def _unbind(address: str) -> None:
    if _driver(address):
        _write(_device(address) / "driver" / "unbind", address)


def _read_override(address: str) -> str:
    text = (_device(address) / "driver_override").read_text().strip()
    return "" if text == "(null)" else text


def _write(attribute: Path, text: str) -> None:
    # One write() with a newline: sysfs takes an empty override only so.
    descriptor = os.open(attribute, os.O_WRONLY)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise DeviceError(f"{what}: run as root, or with sudo") from None
    except OSError as failure:
        raise DeviceError(
            f"{what}: {failure.strerror} ({failure.filename or 'sysfs'}); see the kernel log"
        ) from failure
