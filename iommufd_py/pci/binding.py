# SPDX-License-Identifier: MIT
"""Taking PCI functions from their drivers for VFIO, and giving them back."""

import contextlib
import errno
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.pci_address import PCI_DEVICES, normalize_bdf
from iommufd_py.base.signals import held_signals
from iommufd_py.base.sysfs import entries
from iommufd_py.pci import state
from iommufd_py.pci.advice import iommu_remedy
from iommufd_py.pci.functions import pci_device
from iommufd_py.pci.lending import device_lock
from iommufd_py.pci.openers import openers
from iommufd_py.pci.plans import (
    VFIO_PCI,
    device_node,
    driver_of,
    is_replugged,
    override_of,
    plan_bind,
    plan_forced_bind,
    plan_restore,
    plan_unbind,
)
from iommufd_py.pci.sysfs_write import PCI_DRIVERS, SysfsWrite, steps_by_hand
from iommufd_py.pci.uses import uses
from iommufd_py.vfio.sysfs import CDEV_NAMES

CDEV_SECONDS = 5.0
"""How long to wait for a device's cdev after vfio-pci took it."""

_CDEVS = Path("/dev/vfio/devices")
# Config space: bits 6..0 of the header type are 0 for an endpoint, 1 for a bridge, 2 for CardBus.
_HEADER_TYPE = 0x0E
_NO_ANSWER = 0xFF


def check_bind(bdf: str, *, force: bool = False) -> str:
    """Refuse what :func:`bind_vfio` refuses before it changes anything; return the normalized address."""
    address = pci_device(bdf).bdf
    if driver_of(address) != VFIO_PCI:
        _check_endpoint(address)
        _check_unused(address, force)
    return address


def bind_vfio(bdf: str, *, force: bool = False, cdev_seconds: float = CDEV_SECONDS) -> None:
    """Take a function from its driver and bind it to vfio-pci, remembering what :func:`restore` needs.

    Without effect on a function that is bound to vfio-pci already.

    Args:
        bdf: address of the function.
        force: take it although it is in use.
        cdev_seconds: how long to wait for its node in /dev/vfio/devices.

    Raises:
        DeviceError: there is no such function, it is in use, another process of this tool has it, sysfs refuses,
            vfio-pci does not take it, or its cdev does not appear.
    """
    address = pci_device(bdf).bdf
    with _lock_to_take(address):
        check_bind(address, force=force)
        if driver_of(address) == VFIO_PCI:
            return
        with _explained(f"{address} cannot be bound to vfio-pci"):
            _remember(address, override_set=VFIO_PCI)
            try:
                with _cdev_awaited(address, cdev_seconds):
                    _apply(plan_bind(address))
                    _check_taken(address)
            except BaseException:
                _restore(address)
                raise


def check_unbind(bdf: str, *, force: bool = False) -> str:
    """Refuse what :func:`unbind` refuses before it changes anything; return the normalized address."""
    address = pci_device(bdf).bdf
    _check_not_open_through_vfio(address)
    _check_unused(address, force)
    return address


def unbind(bdf: str, *, force: bool = False) -> None:
    """Leave a function without driver, remembering what :func:`restore` needs; without effect on one that has none.

    Raises:
        DeviceError: there is no such function, it is in use, another process of this tool has it, or sysfs refuses. A
            function that is open through VFIO cannot be forced: the kernel would wait until it is closed.
    """
    address = pci_device(bdf).bdf
    with device_lock(address):
        check_unbind(address, force=force)
        if not driver_of(address):
            return
        with _explained(f"{address} cannot be taken from its driver"):
            _remember(address, override_set="")
            _apply(plan_unbind(address))


def check_restore(bdf: str) -> state.Remembered:
    """Refuse what :func:`restore` refuses before it changes anything; return where the function goes back to."""
    address = normalize_bdf(bdf)
    before = state.recall(address)
    if before is None:
        raise DeviceError(_never_taken(address))
    plan = plan_restore(address, before)
    if any(step.attribute.name in ("unbind", "bind", "drivers_probe") for step in plan):
        _check_not_open_through_vfio(address)
        _check_unused(address, force=False, remedy="end that first")
        _check_group_closed(address, before)
        for step in plan:
            if step.attribute.name == "bind" and not step.attribute.exists():
                raise DeviceError(
                    f"{address} cannot be given back, because its driver {before.driver} is not loaded: "
                    f"'modprobe {before.driver}' first"
                )
    return before


def restore(bdf: str) -> None:
    """Give a function back to the driver and override it had before :func:`bind_vfio` or :func:`unbind`.

    The record of a function that is gone, or was plugged in again, is removed. An override that another tool set since
    stays.

    Raises:
        DeviceError: it was not taken by this tool, another process has it, it is in use, or sysfs refuses.
    """
    address = normalize_bdf(bdf)
    before = state.recall(address)
    if before is None:
        raise DeviceError(_never_taken(address))
    with device_lock(address):
        before = check_restore(address)
        with _explained(f"{address} cannot be given back to {before.driver or 'no driver'}"):
            _restore(address)


@contextlib.contextmanager
def vfio_bound(bdf: str, *, force: bool = False) -> Iterator[None]:
    """Hold a function on vfio-pci and give it back to its driver, also after an error or a signal.

    A function that was on vfio-pci before stays there.

    No other process of this tool can take the function or give it back during the block.
    """
    address = pci_device(bdf).bdf
    with _lock_to_take(address):
        already = driver_of(address) == VFIO_PCI
        try:
            # Inside, since a signal can arrive when the device is taken and bind_vfio() has not returned.
            if not already:
                bind_vfio(address, force=force)
            yield
        finally:
            with held_signals():
                if not already and state.recall(address) is not None:
                    restore(address)


def _lock_to_take(address: str) -> contextlib.AbstractContextManager[None]:
    # Another user than root can open a function that is on vfio-pci, and has nothing to give back.
    if driver_of(address) == VFIO_PCI and not state.may_lock():
        return contextlib.nullcontext()
    return device_lock(address)


def _remember(address: str, override_set: str) -> None:
    """Write down where the function is to go back to, before anything changes, so that a crash can be undone."""
    driver = driver_of(address)
    now = state.Remembered(driver, override_of(address), override_set, device_node(address))
    # On vfio-pci, or without driver, it is where this tool brought it: it goes back to where it was before that.
    before = state.recall(address) if driver in ("", VFIO_PCI) else None
    if before is None or is_replugged(address, before):
        state.remember(address, now)
    elif override_set and before.override_set != override_set:
        state.remember(address, replace(before, override_set=override_set))


def _restore(address: str) -> None:
    before = state.recall(address)
    if before is None:
        return
    try:
        _apply(plan_restore(address, before))
    except OSError as failure:
        # The driver lists no id of the function any more: another tool had added it by new_id.
        if failure.errno != errno.ENODEV or not str(failure.filename).endswith("/bind"):
            raise
        _apply(plan_forced_bind(address, before))
    state.forget(address)


def _apply(steps: Sequence[SysfsWrite]) -> None:
    for step in steps:
        step.apply()


def _never_taken(address: str) -> str:
    text = f"{address} was not bound by 'iommufd device bind', so its driver before is not known"
    driver = driver_of(address)
    if "vfio" in driver:
        return f'{text}: another tool bound it to {driver}; that gives it back, or "{steps_by_hand(address)}" does'
    return f"{text}, and there is nothing to give back: it is {f'on {driver}' if driver else 'without driver'} now"


def _check_endpoint(address: str) -> None:
    with (PCI_DEVICES / address / "config").open("rb") as config:
        config.seek(_HEADER_TYPE)
        header = config.read(1)[0]
    if header == _NO_ANSWER:
        raise DeviceError(
            f"{address} does not answer, its configuration space reads as ones: it is switched off (D3cold) or gone "
            f"from the bus; see the kernel log, and plug it in again ('echo 1 > {PCI_DEVICES / address}/remove; "
            "echo 1 > /sys/bus/pci/rescan')"
        )
    if header & 0x7F:
        raise DeviceError(f"{address} is a bridge: vfio-pci takes endpoints only, choose one behind it")


def _check_unused(
    address: str, force: bool, remedy: str = "end that first, or take it all the same with --force"
) -> None:
    found = () if force else uses(address)
    if found:
        reasons = ", ".join(use.text for use in found)
        raise DeviceError(f"{address} is in use: {reasons}; {remedy}")


def _check_not_open_through_vfio(address: str) -> None:
    found = openers(address) if "vfio" in driver_of(address) else ()
    if found:
        raise DeviceError(f"{address} is open through VFIO: {found[0].text}; end that first")


def _check_group_closed(address: str, before: state.Remembered) -> None:
    """Refuse while VFIO has the function's IOMMU group: the kernel binds no other driver to a device of it then."""
    if not before.driver or "vfio" in before.driver:
        return
    for path in entries(PCI_DEVICES / address / "iommu_group/devices"):
        others = path.name != address and "vfio" in driver_of(path.name)
        found = openers(path.name) if others else ()
        if found:
            raise DeviceError(
                f"{address} cannot be given back to {before.driver}: {path.name}, of the same IOMMU group, is open "
                f"through VFIO: {found[0].text}; end that first"
            )


def _check_taken(address: str) -> None:
    if driver_of(address) == VFIO_PCI:
        return
    if not (PCI_DRIVERS / VFIO_PCI).exists():
        remedy = "its driver is not there: 'modprobe vfio-pci', or a kernel with CONFIG_VFIO_PCI"
    elif not (PCI_DEVICES / address / "iommu_group").exists():
        remedy = f"no IOMMU is in front of it; is the IOMMU on? {iommu_remedy()}"
    else:
        remedy = "the kernel log says why"
    raise DeviceError(f"vfio-pci did not take {address}: {remedy}")


@contextlib.contextmanager
def _cdev_awaited(address: str, seconds: float) -> Iterator[None]:
    """Wait, after the block, until the function's cdev is in /dev; not at all on a kernel without cdevs."""
    import pyudev

    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by("vfio-dev")
    monitor.start()  # before the event can come
    yield
    numbers = entries(PCI_DEVICES / address / "vfio-dev", f"{CDEV_NAMES}/dev")
    deadline = time.monotonic() + seconds
    for node in [_CDEVS / number.parent.name for number in numbers]:
        while not node.exists():
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeviceError(
                    f"{address} was bound to vfio-pci, but {node} did not appear within {seconds:g} s, so it was given "
                    f"back: this /dev gets no new nodes (a container?); bind it on the host, and pass {node} and "
                    "/dev/iommu in, or mount devtmpfs"
                )
            monitor.poll(left)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise DeviceError(f"{what}: run as root, or with sudo") from None
    except OSError as failure:
        place = failure.filename or "sysfs"
        raise DeviceError(f"{what}: {failure.strerror} ({place}); the kernel log may say why") from failure
