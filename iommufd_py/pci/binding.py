# SPDX-License-Identifier: MIT
"""Taking PCI functions from their drivers for VFIO, and giving them back."""

import contextlib
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.pci_address import PCI_DEVICES, normalize_bdf
from iommufd_py.base.signals import held_signals
from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.pci import state
from iommufd_py.pci.functions import bound_driver, pci_device
from iommufd_py.pci.uses import openers, uses

CDEV_SECONDS = 5.0
"""How long to wait for a device's cdev after vfio-pci took it."""

_BUS = Path("/sys/bus/pci")
_CDEVS = Path("/dev/vfio/devices")
_VFIO_PCI = "vfio-pci"
# Config space: bits 6..0 of the header type are 0 for an endpoint, 1 for a bridge, 2 for CardBus.
_HEADER_TYPE = 0x0E


@dataclass(frozen=True, slots=True)
class SysfsWrite:
    """One step of a change: a text and the sysfs attribute it goes to."""

    text: str
    attribute: Path

    def __str__(self) -> str:
        return f"echo {shlex.quote(self.text)} > {self.attribute}"

    def apply(self) -> None:
        """Write it."""
        # One write() with a newline: sysfs takes an empty override only so.
        descriptor = os.open(self.attribute, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{self.text}\n".encode())
        except OSError as failure:
            failure.filename = str(self.attribute)
            raise
        finally:
            os.close(descriptor)


def plan_bind(address: str) -> tuple[SysfsWrite, ...]:
    """Return the steps that bind a function to vfio-pci; none for one that is."""
    if _driver(address) == _VFIO_PCI:
        return ()
    # driver_override names one function; new_id would make the driver grab every function of that id.
    override = SysfsWrite(_VFIO_PCI, PCI_DEVICES / address / "driver_override")
    return (*plan_unbind(address), override, SysfsWrite(address, _BUS / "drivers_probe"))


def plan_unbind(address: str) -> tuple[SysfsWrite, ...]:
    """Return the steps that leave a function without driver."""
    driver = _driver(address)
    return (SysfsWrite(address, _BUS / "drivers" / driver / "unbind"),) if driver else ()


def plan_restore(address: str, before: state.Remembered) -> tuple[SysfsWrite, ...]:
    """Return the steps that make a function as it was *before*; none where it is so, or is gone."""
    if not (PCI_DEVICES / address).exists():
        return ()
    steps: list[SysfsWrite] = []
    if _override(address) != before.driver_override:
        steps.append(SysfsWrite(before.driver_override, PCI_DEVICES / address / "driver_override"))
    if _driver(address) != before.driver:
        steps = [*plan_unbind(address), *steps]
        if before.driver:
            steps.append(SysfsWrite(address, _BUS / "drivers" / before.driver / "bind"))
    return tuple(steps)


def check_bind(bdf: str, *, force: bool = False) -> str:
    """Refuse what :func:`bind_vfio` would refuse before it changes anything; return the normalized address."""
    address = pci_device(bdf).bdf
    if _driver(address) != _VFIO_PCI:
        _check_endpoint(address)
        _check_unused(address, force)
    return address


def bind_vfio(bdf: str, *, force: bool = False, cdev_seconds: float = CDEV_SECONDS) -> None:
    """Take a function from its driver and bind it to vfio-pci, remembering what :func:`restore` needs.

    Without effect on one that is bound to vfio-pci already.

    Args:
        bdf: address of the function.
        force: take it although it is in use.
        cdev_seconds: how long to wait for its node in /dev/vfio/devices.

    Raises:
        DeviceError: there is no such function, it is in use, sysfs refuses, vfio-pci does not take it, or its cdev
            does not appear.
    """
    address = check_bind(bdf, force=force)
    if _driver(address) == _VFIO_PCI:
        return
    with _explained(f"{address} cannot be bound to vfio-pci"), state.state_lock():
        _remember(address)
        try:
            with _cdev_awaited(address, cdev_seconds):
                _apply(plan_bind(address))
                _check_taken(address)
        except BaseException:
            _restore(address)
            raise


def check_unbind(bdf: str, *, force: bool = False) -> str:
    """Refuse what :func:`unbind` would refuse before it changes anything; return the normalized address."""
    address = pci_device(bdf).bdf
    _check_not_open_through_vfio(address)
    _check_unused(address, force)
    return address


def unbind(bdf: str, *, force: bool = False) -> None:
    """Leave a function without driver, remembering what :func:`restore` needs; without effect on one that has none.

    Raises:
        DeviceError: there is no such function, it is in use, or sysfs refuses. What is open through VFIO cannot be
            forced: the kernel would wait until it is closed.
    """
    address = check_unbind(bdf, force=force)
    if not _driver(address):
        return
    with _explained(f"{address} cannot be taken from its driver"), state.state_lock():
        _remember(address)
        _apply(plan_unbind(address))


def check_restore(bdf: str) -> state.Remembered:
    """Refuse what :func:`restore` would refuse before it changes anything; return where the function goes back to."""
    address = normalize_bdf(bdf)
    before = state.recall(address)
    if before is None:
        raise DeviceError(f"{address} was not bound by 'iommufd device bind': nothing is known of its driver before")
    if (PCI_DEVICES / address).exists() and _driver(address) != before.driver:
        _check_not_open_through_vfio(address)
    return before


def restore(bdf: str) -> None:
    """Give a function back to the driver and override it had before :func:`bind_vfio` or :func:`unbind`.

    One that is gone by now is forgotten.

    Raises:
        DeviceError: it was not taken by this tool, a process has it open through VFIO, or sysfs refuses.
    """
    address = normalize_bdf(bdf)
    before = check_restore(address)
    with _explained(f"{address} cannot be given back to {before.driver or 'no driver'}"), state.state_lock():
        _restore(address)


@contextlib.contextmanager
def vfio_bound(bdf: str, *, force: bool = False) -> Iterator[None]:
    """Hold a function on vfio-pci and give it back to its driver, whatever happens; one already there stays there."""
    address = pci_device(bdf).bdf
    already = _driver(address) == _VFIO_PCI
    try:
        # Inside, as a signal can end it when the device is taken and before anybody knows.
        if not already:
            bind_vfio(address, force=force)
        yield
    finally:
        with held_signals():
            if not already and state.recall(address) is not None:
                restore(address)


def _remember(address: str) -> None:
    """Write down where the function is to go back to, before anything changes, so that a crash can be undone."""
    driver = _driver(address)
    # On vfio-pci, or without driver, it is where this tool brought it: it goes back to where it was before that.
    if state.recall(address) is None or driver not in ("", _VFIO_PCI):
        state.remember(address, state.Remembered(driver, _override(address)))


def _restore(address: str) -> None:
    before = state.recall(address)
    if before is None:
        return
    _apply(plan_restore(address, before))
    state.forget(address)


def _apply(steps: Sequence[SysfsWrite]) -> None:
    for step in steps:
        step.apply()


def _driver(address: str) -> str:
    return bound_driver(PCI_DEVICES / address)


def _override(address: str) -> str:
    text = attribute_text(PCI_DEVICES / address / "driver_override")
    return "" if text == "(null)" else text


def _check_endpoint(address: str) -> None:
    with (PCI_DEVICES / address / "config").open("rb") as config:
        config.seek(_HEADER_TYPE)
        if config.read(1)[0] & 0x7F:
            raise DeviceError(f"{address} is a bridge: vfio-pci takes endpoints only, choose one behind it")


def _check_unused(address: str, force: bool) -> None:
    found = () if force else uses(address)
    if found:
        reasons = ", ".join(use.text for use in found)
        raise DeviceError(f"{address} is in use: {reasons}; end that first, or take it all the same with --force")


def _check_not_open_through_vfio(address: str) -> None:
    found = openers(address) if "vfio" in _driver(address) else ()
    if found:
        raise DeviceError(f"{address} is open through VFIO: {found[0].text}; end that first")


def _check_taken(address: str) -> None:
    if _driver(address) != _VFIO_PCI:
        raise DeviceError(
            f"vfio-pci did not take {address}: is its driver there ('modprobe vfio-pci') and the IOMMU on "
            "(intel_iommu=on)? The kernel log says more"
        )


@contextlib.contextmanager
def _cdev_awaited(address: str, seconds: float) -> Iterator[None]:
    """Wait, after what is done inside, until the function's cdev is in /dev; at once on a kernel without cdevs."""
    import pyudev

    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by("vfio-dev")
    monitor.start()  # before the event can come
    yield
    numbers = entries(PCI_DEVICES / address / "vfio-dev", "vfio*/dev")
    deadline = time.monotonic() + seconds
    for node in [_CDEVS / number.parent.name for number in numbers]:
        while not node.exists():
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeviceError(f"{address} was bound to vfio-pci, but {node} did not appear within {seconds:g} s")
            monitor.poll(left)


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
