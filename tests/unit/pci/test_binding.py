# SPDX-License-Identifier: MIT
"""Take a function and give it back, in a tree of sysfs as the kernel makes it. Tests in the lab use real devices."""

import errno
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import DeviceError
from iommufd_py.pci import binding, plans, state, sysfs_write
from iommufd_py.pci.state import Remembered
from iommufd_py.pci.sysfs_write import SysfsWrite
from iommufd_py.pci.users import openers
from iommufd_py.pci.users.use import Use, UseKind

ADDRESS = "0000:00:10.0"


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A function on vfio-pci that was taken from nvme."""
    devices, drivers, records = tmp_path / "devices", tmp_path / "drivers", tmp_path / "records"
    for module in (binding, plans, sysfs_write):
        monkeypatch.setattr(module, "PCI_DEVICES", devices)
        monkeypatch.setattr(module, "PCI_DRIVERS", drivers)
    monkeypatch.setattr(state, "_DIRECTORY", records)
    path = devices / ADDRESS
    for directory in (path, drivers / "nvme", drivers / "vfio-pci"):
        directory.mkdir(parents=True)
    for attribute in (path / "driver_override", drivers / "vfio-pci/unbind", drivers / "nvme/bind"):
        attribute.touch()
    (path / "driver").symlink_to(drivers / "vfio-pci")
    (path / "driver_override").write_text("vfio-pci\n")
    state.remember(ADDRESS, Remembered("nvme", ""))
    return path


def test_a_second_signal_does_not_stop_giving_back(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one ended the bind; without a driver the function would be of no use to anybody."""
    done = []

    def apply_and_interrupt(step: SysfsWrite) -> None:
        done.append(step.attribute.name)
        signal.raise_signal(signal.SIGINT)  # to this thread: held_signals() holds no other

    monkeypatch.setattr(SysfsWrite, "apply", apply_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        binding._restore(ADDRESS)
    assert done == ["unbind", "driver_override", "bind"]
    assert state.recall(ADDRESS) is None


def test_a_function_that_keeps_its_driver_is_not_recorded_as_taken(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (device / "driver").unlink()
    (device / "driver").symlink_to(device.parents[1] / "drivers/nvme")  # This driver has no attribute `unbind`.
    state.remove_record(ADDRESS)
    monkeypatch.setattr(binding, "uses", lambda _: ())
    monkeypatch.setattr(binding, "pci_device", lambda bdf: type("Found", (), {"bdf": bdf}))
    with pytest.raises(DeviceError, match=f"{ADDRESS} cannot be taken from its driver: No such file"):
        binding.unbind(ADDRESS)
    assert state.recall(ADDRESS) is None


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 64, b"\0" * 14 + b"\x01" + b"\0" * 49, b"\0" * 64])
def test_configuration_space(device: Path, content: bytes | None) -> None:
    """It is gone with the device, ends early or reads as ones; the function is a bridge or an endpoint."""
    refusals = {None: "cannot be read", b"": "does not answer", b"\xff" * 64: "does not answer", b"\0" * 64: ""}
    if content is not None:
        (device / "config").write_bytes(content)
    refusal = refusals.get(content, "is a bridge")
    if refusal:
        with pytest.raises(DeviceError, match=refusal):
            binding._check_endpoint(ADDRESS)
    else:
        binding._check_endpoint(ADDRESS)


def test_force_does_not_wait_for_the_user_of_another_vfio_driver(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would wait in the unbind until the virtual machine closes the device."""
    (device / "driver").unlink()
    (device / "driver").symlink_to(device.parents[1] / "drivers/mlx5_vfio_pci")
    (device / "config").write_bytes(bytes(64))
    user = Use(UseKind.PROCESS, "qemu (process 7) has /dev/vfio/devices/vfio0 open")
    monkeypatch.setattr(binding, "openers", lambda _: (user,))
    monkeypatch.setattr(binding, "uses", lambda _: (user,))
    monkeypatch.setattr(binding, "pci_device", lambda bdf: type("Found", (), {"bdf": bdf}))
    for force in (False, True):
        with pytest.raises(DeviceError, match=r"qemu \(process 7\) has .* open; end this use first"):
            binding.check_bind(ADDRESS, force=force)


@pytest.mark.parametrize(
    ("place", "driver", "kind", "refused"),
    [
        ("virtio3", "9pnet_virtio", UseKind.FILE_SYSTEM, True),
        ("virtio3", "9pnet_virtio", UseKind.PROCESS, True),
        ("", "nvidia", UseKind.PROCESS, True),
        ("", "nvidia", UseKind.DISPLAY, False),
        ("virtio3", "virtio_blk", UseKind.FILE_SYSTEM, False),
    ],
)
def test_force_does_not_wait_for_the_users_of_a_driver(
    device: Path, monkeypatch: pytest.MonkeyPatch, place: str, driver: str, kind: UseKind, refused: bool
) -> None:
    """p9_virtio_remove() and nv_pci_remove() wait in the unbind, and not even SIGKILL ends that."""
    (device / "driver").unlink()
    (device / place).mkdir(exist_ok=True)
    (device / place / "driver").symlink_to(device.parents[1] / "drivers" / driver)
    monkeypatch.setattr(binding, "uses", lambda _: (Use(kind, "it has a user"),))
    monkeypatch.setattr(binding, "pci_device", lambda bdf: type("Found", (), {"bdf": bdf}))
    if refused:
        for force in (False, True):
            with pytest.raises(DeviceError, match=f"end this use first: its driver {driver} would wait") as caught:
                binding.check_unbind(ADDRESS, force=force)
            assert "--force" not in str(caught.value)
    else:
        assert binding.check_unbind(ADDRESS, force=True) == ADDRESS
        with pytest.raises(DeviceError, match=f"it has a user.*: iommufd device unbind --force {ADDRESS}"):
            binding.check_unbind(ADDRESS)


def test_force_waits_for_no_user_that_cannot_be_seen(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "openers", lambda _: ())
    monkeypatch.setattr(binding, "pci_device", lambda bdf: type("Found", (), {"bdf": bdf}))
    monkeypatch.setattr(openers, "sees_all_files", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(DeviceError, match=f"{ADDRESS} may be open through VFIO: its users cannot be seen"):
        binding.check_unbind(ADDRESS, force=True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert binding.check_unbind(ADDRESS, force=True) == ADDRESS


@pytest.mark.parametrize(
    ("driver", "kind", "refused"),
    [
        ("vfio-pci", UseKind.PLATFORM, False),
        ("", UseKind.DISPLAY, False),
        ("vfio-pci", UseKind.VIRTUAL_FUNCTIONS, True),
        ("", UseKind.PROCESS, True),
        ("uio_pci_generic", UseKind.PLATFORM, True),
    ],
)
def test_a_function_that_was_taken_by_force_goes_back(
    device: Path, monkeypatch: pytest.MonkeyPatch, driver: str, kind: UseKind, refused: bool
) -> None:
    """`bind --force` took a host bridge or the only display, and `restore` refused it for the same reason."""
    (device / "driver").unlink()
    if driver:
        (device / "driver").symlink_to(device.parents[1] / "drivers" / driver)
    monkeypatch.setattr(binding, "openers", lambda _: ())
    monkeypatch.setattr(binding, "uses", lambda _: (Use(kind, "it has a user"),))
    if refused:
        with pytest.raises(DeviceError, match=f"{ADDRESS} is in use: it has a user"):
            binding.check_restore(ADDRESS)
    else:
        assert binding.check_restore(ADDRESS).driver == "nvme"


def test_a_driver_whose_name_has_a_blank() -> None:
    step = SysfsWrite(ADDRESS, Path("/sys/bus/pci/drivers/Serial Port/unbind"))
    assert shlex.split(str(step)) == ["echo", ADDRESS, ">", str(step.attribute)]


def test_the_error_of_an_attribute_has_its_name(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with pytest.raises(OSError, match="No space") as caught:
        SysfsWrite("x", full).apply()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full))


@pytest.mark.parametrize(
    "call",
    [
        state.recall,
        plans.plan_bind,
        plans.plan_unbind,
        lambda address: plans.plan_restore(address, Remembered("nvme", "")),
        lambda address: plans.is_replugged(address, Remembered("nvme", "", node=1)),
    ],
    ids=("recall", "plan_bind", "plan_unbind", "plan_restore", "is_replugged"),
)
@pytest.mark.usefixtures("device")
def test_an_address_without_domain_names_the_same_function(call: Callable[[str], object]) -> None:
    """The record of the function was not found, and there was no step that takes it from its driver."""
    assert call("00:10.0") == call("00000000:00:10.0") == call(ADDRESS)
    with pytest.raises(DeviceError, match=r"'\.\./\.\.' is not a PCI address"):
        call("../..")
    with pytest.raises(TypeError, match="a PCI address must be a string, not None"):
        call(None)  # type: ignore[arg-type]
