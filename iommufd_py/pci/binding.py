# SPDX-License-Identifier: MIT
"""Take PCI functions from their drivers for VFIO, and give them back."""

import contextlib
import errno
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.pci_address import PCI_DEVICES, normalize_bdf
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.base.signals import held_signals
from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.pci import state
from iommufd_py.pci.advice import iommu_remedy
from iommufd_py.pci.functions import bound_driver, pci_device
from iommufd_py.pci.lending import device_lock
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
from iommufd_py.pci.users.judgement import uses
from iommufd_py.pci.users.openers import hidden_users, openers
from iommufd_py.pci.users.use import UseKind
from iommufd_py.vfio.sysfs import CDEV_NAMES

CDEV_SECONDS = 5.0
"""Seconds to wait for a device's cdev after the bind to vfio-pci."""

_CDEVS = Path("/dev/vfio/devices")
# Config space: bits 6..0 of the header type are 0 for an endpoint, 1 for a bridge, 2 for CardBus.
_HEADER_TYPE = 0x0E
# A function that was taken by force, although the machine needs it, is given back without question.
_BY_NATURE = (UseKind.DISPLAY, UseKind.PLATFORM)
_NO_ANSWER = 0xFF
# p9_virtio_remove() in net/9p/trans_virtio.c; nv_pci_remove() of NVIDIA's driver. Nothing ends the unbind, not even
# SIGKILL. The drivers of VFIO wait, too, and have a check of their own.
_WAITING = ("9pnet_virtio", "nvidia")
_AWAITED = (UseKind.PROCESS, UseKind.FILE_SYSTEM)
# vfio_pci_dev_in_denylist() in drivers/vfio/pci/vfio_pci.c: QAT, and DSA and IAX of Sapphire Rapids.
_DENYLIST = frozenset(f"8086:{one}" for one in ["0435", "0443", "0b25", "0cfe", "19e2", "19e3", "37c8", "37c9"])
_DENYLIST_OFF = Path("/sys/module/vfio_pci/parameters/disable_denylist")


def check_bind(bdf: str, *, force: bool = False) -> str:
    """Do the checks of :func:`bind_vfio` that come before any change; return the normalized address.

    Raises:
        DeviceError: the function is absent, is no endpoint or is in use, or vfio-pci is not loaded.
    """
    address = pci_device(bdf).bdf
    if driver_of(address) != VFIO_PCI:
        _check_endpoint(address)
        _check_not_open_through_vfio(address)  # Other drivers of VFIO wait for their users too.
        # A user of --bind reads this name too: only this command has --force.
        _check_unused(address, force, "iommufd device bind")
        # Without this check, the device would lose its driver for a moment, and a dry run would promise a success.
        if not (PCI_DRIVERS / VFIO_PCI).exists():
            raise DeviceError(
                f"vfio-pci cannot take {address}, because the driver is not loaded: 'modprobe vfio-pci', or use a "
                "kernel with CONFIG_VFIO_PCI"
            )
    return address


def bind_vfio(bdf: str, *, force: bool = False, cdev_seconds: float = CDEV_SECONDS) -> None:
    """Take a function from its driver, bind it to vfio-pci, and record its driver for :func:`restore`.

    No effect on a function that is bound to vfio-pci already.

    Args:
        bdf: address of the function.
        force: take the function although it is in use.
        cdev_seconds: seconds to wait for its node in /dev/vfio/devices.

    Raises:
        DeviceError: the function does not exist or is in use, another process of this tool has it, a write to sysfs
            fails, vfio-pci does not accept it, or its cdev does not appear.
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
    """Do the checks of :func:`unbind` that come before any change; return the normalized address.

    Raises:
        DeviceError: the function is absent or in use.
    """
    address = pci_device(bdf).bdf
    _check_not_open_through_vfio(address)
    _check_unused(address, force, "iommufd device unbind")
    return address


def unbind(bdf: str, *, force: bool = False) -> None:
    """Take a function from its driver, and record the driver for :func:`restore`. No effect on one without driver.

    Raises:
        DeviceError: the function does not exist or is in use, another process of this tool has it, or a write to sysfs
            fails. A function that is open through VFIO cannot be forced: the kernel would wait until it is closed.
    """
    address = pci_device(bdf).bdf
    with device_lock(address):
        check_unbind(address, force=force)
        if not driver_of(address):
            return
        with _explained(f"{address} cannot be taken from its driver"):
            _remember(address, override_set="")
            try:
                _apply(plan_unbind(address))
            except BaseException:
                if driver_of(address) not in ("", VFIO_PCI):  # It is not taken.
                    state.remove_record(address)
                raise


def check_restore(bdf: str) -> state.Remembered:
    """Do the checks of :func:`restore` that come before any change; return the record of the function.

    Raises:
        DeviceError: this tool did not take the function, or a process uses it.
    """
    address = normalize_bdf(bdf)
    before = state.recall(address)
    if before is None:
        raise DeviceError(_never_taken(address))
    plan = plan_restore(address, before)
    if any(step.attribute.name in ("unbind", "bind", "drivers_probe") for step in plan):
        _check_not_open_through_vfio(address)
        no_driver = not driver_of(address) or "vfio" in driver_of(address)
        _check_unused(address, force=False, command="", ignored=_BY_NATURE if no_driver else ())
        _check_group_closed(address, before)
        for step in plan:
            if step.attribute.name == "bind" and not step.attribute.exists():
                raise DeviceError(
                    f"{address} cannot be given back, because its driver {before.driver} is not loaded: "
                    f"'modprobe {before.driver}' first"
                )
    return before


def restore(bdf: str) -> None:
    """Give a function back the driver and driver_override that it had before :func:`bind_vfio` or :func:`unbind`.

    If the function was removed or plugged in again, only its record is removed. A driver_override that another tool has
    set in between stays.

    Raises:
        DeviceError: this tool did not take the function, another process has it, it is in use, or a write to sysfs
            fails.
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
    """Hold a function on vfio-pci during the block, and give it back to its driver, also after an error or a signal.

    A function that was on vfio-pci before the block stays there.

    No other process of this tool can take the function or give it back during the block. A forked process that leaves
    the block gives nothing back, because its parent still uses the function.
    """
    address = pci_device(bdf).bdf
    taker = os.getpid()
    with _lock_to_take(address):
        already = driver_of(address) == VFIO_PCI
        try:
            # Inside the try: a signal can arrive after the device is taken and before bind_vfio() returns.
            if not already:
                bind_vfio(address, force=force)
            yield
        finally:
            with held_signals():
                if not already and taker == os.getpid() and state.recall(address) is not None:
                    restore(address)


def _lock_to_take(address: str) -> contextlib.AbstractContextManager[None]:
    # A user other than root can use a function that is already on vfio-pci; then there is nothing to give back.
    if driver_of(address) == VFIO_PCI and not state.may_lock():
        return contextlib.nullcontext()
    return device_lock(address)


def _remember(address: str, override_set: str) -> None:
    """Record the function's driver before anything changes, so that restore() works even after a crash."""
    driver = driver_of(address)
    now = state.Remembered(driver, override_of(address), override_set, device_node(address))
    # A function on vfio-pci or without driver was put there by this tool: keep the older record.
    before = state.recall(address) if driver in ("", VFIO_PCI) else None
    if before is None or is_replugged(address, before):
        state.remember(address, now)
    elif override_set and before.override_set != override_set:
        state.remember(address, replace(before, override_set=override_set))


def _restore(address: str) -> None:
    before = state.recall(address)
    if before is None:
        return
    # A second Ctrl-C must not leave the function without a driver.
    with held_signals():
        try:
            _apply(plan_restore(address, before))
        except OSError as failure:
            # The driver no longer lists the function's id, which another tool had added by new_id.
            if failure.errno != errno.ENODEV or not str(failure.filename).endswith("/bind"):
                raise
            _apply(plan_forced_bind(address, before))
        state.remove_record(address)


def _apply(steps: Sequence[SysfsWrite]) -> None:
    for step in steps:
        step.apply()


def _never_taken(address: str) -> str:
    text = f"{address} was not bound by 'iommufd device bind', so its former driver is unknown"
    driver = driver_of(address)
    if "vfio" in driver:
        return f'{text}: another tool bound it to {driver}; that tool gives it back, or "{steps_by_hand(address)}" does'
    return f"{text}, so there is nothing to give back: it is {f'on {driver}' if driver else 'without driver'} now"


def _check_endpoint(address: str) -> None:
    try:
        with (PCI_DEVICES / address / "config").open("rb") as config:
            config.seek(_HEADER_TYPE)
            (header,) = config.read(1) or (_NO_ANSWER,)
    except OSError as failure:
        raise DeviceError(
            f"the configuration space of {address} cannot be read: {failure.strerror}; if the device was removed, "
            "'iommufd device list' does not show it any more"
        ) from failure
    if header == _NO_ANSWER:
        raise DeviceError(
            f"{address} does not answer: its configuration space reads as ones. It is switched off (D3cold) or gone "
            f"from the bus; see the kernel log, and plug it in again ('echo 1 > {PCI_DEVICES / address}/remove; "
            "echo 1 > /sys/bus/pci/rescan')"
        )
    if header & 0x7F:
        raise DeviceError(f"{address} is a bridge: vfio-pci takes endpoints only, choose one behind it")


def _check_unused(address: str, force: bool, command: str, ignored: Collection[UseKind] = ()) -> None:
    """Refuse a function in use, unless *force* is true. *command* takes it anyway, or is empty."""
    waiting = _waiting_driver(address)
    if force and not waiting:
        return
    found = tuple(use for use in uses(address) if use.kind not in ignored)
    awaited = ", ".join(use.text for use in found if waiting and use.kind in _AWAITED)
    if awaited:
        raise DeviceError(
            f"{address} is in use: {awaited}; end this use first: its driver {waiting} would wait for that without end"
        )
    if found and not force:
        reasons = ", ".join(use.text for use in found)
        anyway = f", or take the device anyway: {command} --force {address}" if command else ""
        needed = any(use.kind is UseKind.PLATFORM for use in found)
        remedy = "choose another device" if needed else "end this use first"
        raise DeviceError(f"{address} is in use: {reasons}; {remedy}{anyway}")


def _waiting_driver(address: str) -> str:
    """Return the driver of a function, or of its virtio device, that waits for its users in an unbind; else nothing."""
    device = PCI_DEVICES / address
    drivers = [bound_driver(one) for one in (device, *entries(device, "virtio*"))]
    return next((name for name in drivers if name in _WAITING), "")


def _check_not_open_through_vfio(address: str) -> None:
    if "vfio" not in driver_of(address):
        return
    for use in openers(address):
        raise DeviceError(f"{address} is open through VFIO: {use.text}; end this use first")
    for use in hidden_users():
        raise DeviceError(f"{address} may be open through VFIO: {use.text}; run this where root has that capability")


def _check_group_closed(address: str, before: state.Remembered) -> None:
    """Refuse while VFIO uses the function's IOMMU group: the kernel then binds no other driver to its devices."""
    if not before.driver or "vfio" in before.driver:
        return
    for path in entries(PCI_DEVICES / address / "iommu_group/devices"):
        others = path.name != address and "vfio" in driver_of(path.name)
        found = openers(path.name) if others else ()
        if found:
            raise DeviceError(
                f"{address} cannot be given back to {before.driver}: {path.name}, of the same IOMMU group, is open "
                f"through VFIO: {found[0].text}; end this use first"
            )


def _check_taken(address: str) -> None:
    if driver_of(address) == VFIO_PCI:
        return
    if not (PCI_DEVICES / address / "iommu_group").exists():
        remedy = f"it is behind no IOMMU; is the IOMMU on? {iommu_remedy()}"
    elif pci_device(address).ids in _DENYLIST and attribute_text(_DENYLIST_OFF) == "N":
        remedy = (
            "the driver refuses devices with which untrusted users can do harm; if you trust the users, boot with "
            "vfio_pci.disable_denylist=1, or load the module with disable_denylist=1"
        )
    else:
        remedy = "the kernel log has the reason"
    raise DeviceError(f"vfio-pci did not take {address}: {remedy}")


@contextlib.contextmanager
def _cdev_awaited(address: str, seconds: float) -> Iterator[None]:
    """Wait, after the block, until the function's cdev is in /dev. A kernel without cdevs needs no wait."""
    import pyudev

    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by("vfio-dev")
    monitor.start()  # Start to listen before the event can occur.
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
                    "/dev/iommu in, or run: mount -t devtmpfs nodev /dev"
                )
            monitor.poll(left)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise DeviceError(f"{what}: {permission_remedy()}") from None
    except OSError as failure:
        place = failure.filename or "sysfs"
        raise DeviceError(f"{what}: {failure.strerror} ({place}); the kernel log may have the reason") from failure
