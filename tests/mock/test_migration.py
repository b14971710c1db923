# SPDX-License-Identifier: MIT
"""The migration of a serial port that the kernel's sample driver mtty emulates (samples/vfio-mdev/mtty.c)."""

import os
from collections.abc import Iterator

import pytest

from iommufd_py import (
    ArgumentValueError,
    ClosedError,
    DeviceError,
    Iommufd,
    IommufdError,
    MediatedDevice,
    MigrationFeatures,
    MigrationState,
    RegionIndex,
)
from tests.interrupting import interrupt_everywhere
from tests.mock.conftest import new_mediated

# Registers of a 16550 (include/uapi/linux/serial_reg.h).
DATA, FIFO_CONTROL, LINE_STATUS, SCRATCH = 0, 2, 5, 7
FIFO_ENABLE, DATA_READY = 1, 1

# struct mtty_data and struct serial_port: a header, and the port.
HEADER = 24

RUNNING, STOP, STOP_COPY = MigrationState.RUNNING, MigrationState.STOP, MigrationState.STOP_COPY
RESUMING, PRE_COPY, PRE_COPY_P2P = MigrationState.RESUMING, MigrationState.PRE_COPY, MigrationState.PRE_COPY_P2P


@pytest.fixture
def source(mediated: MediatedDevice) -> MediatedDevice:
    return mediated


@pytest.fixture
def target(iommufd: Iommufd) -> Iterator[MediatedDevice]:
    with new_mediated(iommufd) as device:
        yield device


def fill(device: MediatedDevice, scratch: int, text: bytes) -> None:
    """Give the port a content: a register, and bytes that it sends to itself."""
    bar = device.region(RegionIndex.BAR0)
    bar.write_int(SCRATCH, scratch, 1)
    bar.write_int(FIFO_CONTROL, FIFO_ENABLE, 1)
    for byte in text:
        bar.write_int(DATA, byte, 1)


def content(device: MediatedDevice) -> tuple[int, bytes]:
    """Return the register and the bytes, which this takes from the port."""
    bar, text = device.region(RegionIndex.BAR0), b""
    while bar.read_int(LINE_STATUS, 1) & DATA_READY:
        text += bar.read(DATA, 1)
    return bar.read_int(SCRATCH, 1), text


def saved(device: MediatedDevice) -> bytes:
    with device.migration().save() as saving:
        return saving.read_all()


def test_the_features(source: MediatedDevice) -> None:
    every_kind = MigrationFeatures.STOP_COPY | MigrationFeatures.P2P | MigrationFeatures.PRE_COPY
    assert source.migration_features() == source.migration().features == every_kind
    assert source.migration().state() is RUNNING


def test_the_content_moves_to_another_device(source: MediatedDevice, target: MediatedDevice) -> None:
    fill(source, 0x5A, b"in flight")
    assert content(target) == (0, b"")
    migration = source.migration()
    with migration.save() as saving:
        assert migration.state() is STOP_COPY
        state = saving.read_all()
        assert saving.read() == b""
    assert len(state) == migration.stop_copy_bytes() > HEADER
    migration = target.migration()
    with migration.resume() as resuming:
        assert migration.state() is RESUMING
        resuming.write(state)
        migration.set_state(RUNNING)
    assert migration.state() is RUNNING
    assert content(target) == (0x5A, b"in flight")


def test_the_stream_may_be_split_in_any_way(source: MediatedDevice, target: MediatedDevice) -> None:
    fill(source, 0xA5, b"piecewise")
    with source.migration().save() as saving:
        parts = list(iter(lambda: saving.read(7), b""))
    assert {len(part) for part in parts[:-1]} == {7}
    with target.migration().resume() as resuming:
        for byte in b"".join(parts):
            resuming.write(bytes([byte]))
    target.migration().set_state(RUNNING)
    assert content(target) == (0xA5, b"piecewise")


def test_the_device_runs_while_part_of_its_state_is_read(source: MediatedDevice, target: MediatedDevice) -> None:
    migration = source.migration()
    with migration.save(PRE_COPY) as saving:
        info = saving.precopy_info()
        assert (info.initial_bytes, info.dirty_bytes) == (HEADER, 0)
        state = saving.read(10)
        assert saving.precopy_info().initial_bytes == HEADER - 10
        state += saving.read_all()
        assert len(state) == HEADER
        assert saving.precopy_info().initial_bytes == 0
        # The device runs, so this belongs to the state.
        fill(source, 0x3C, b"late")
        migration.set_state(PRE_COPY_P2P)
        migration.set_state(STOP_COPY)
        with pytest.raises(IommufdError, match="neither of the states PRE_COPY and PRE_COPY_P2P"):
            saving.precopy_info()
        state += saving.read_all()
    with target.migration().resume() as resuming:
        resuming.write(state)
        target.migration().set_state(RUNNING)
    assert content(target) == (0x3C, b"late")


def test_a_device_that_was_saved_can_run_again(source: MediatedDevice) -> None:
    fill(source, 0x77, b"stays")
    saved(source)
    source.migration().set_state(STOP)
    source.migration().set_state(RUNNING)
    assert content(source) == (0x77, b"stays")


def test_a_change_that_the_kernel_does_not_know(source: MediatedDevice) -> None:
    migration = source.migration()
    with migration.save():
        with pytest.raises(DeviceError) as caught:
            migration.set_state(PRE_COPY)
        assert str(caught.value) == (
            f"{source.name} cannot change from STOP_COPY to PRE_COPY (VFIO_DEVICE_FEATURE of MIG_DEVICE_STATE: "
            "EINVAL), and is now in STOP_COPY: a device that is stopped for saving runs again first; use "
            "set_state(MigrationState.RUNNING)"
        )
    with pytest.raises(DeviceError, match="a device gets into ERROR only by itself"):
        migration.set_state(MigrationState.ERROR)
    assert migration.state() is STOP_COPY


def test_a_transfer_begins_with_its_own_method(source: MediatedDevice) -> None:
    migration = source.migration()
    with pytest.raises(ArgumentValueError, match=r"begins a transfer: use save\(MigrationState.STOP_COPY\)"):
        migration.set_state(STOP_COPY)
    with pytest.raises(ArgumentValueError, match=r"begins a transfer: use resume\(\)"):
        migration.set_state(RESUMING)
    with pytest.raises(ArgumentValueError, match="not in RUNNING"):
        migration.save(RUNNING)
    assert migration.state() is RUNNING
    with migration.save(PRE_COPY), pytest.raises(DeviceError, match="is in PRE_COPY, so its transfer has begun"):
        migration.save()
    migration.set_state(RUNNING)
    with migration.resume(), pytest.raises(DeviceError, match="is in RESUMING, so its transfer has begun"):
        migration.resume()


def test_a_state_that_is_too_short_is_refused(source: MediatedDevice, target: MediatedDevice) -> None:
    migration = target.migration()
    with migration.resume() as resuming:
        state = saved(source)
        resuming.write(state[:-1])
        with pytest.raises(DeviceError, match=r"from RESUMING to RUNNING .* does not accept the state .* write all"):
            migration.set_state(RUNNING)
        assert migration.state() is RESUMING
        resuming.write(state[-1:])
        migration.set_state(RUNNING)


def test_a_foreign_state_is_refused(source: MediatedDevice, target: MediatedDevice) -> None:
    state = saved(source)
    with target.migration().resume() as resuming, pytest.raises(DeviceError, match="not the state of a device of the"):
        resuming.write(b"\0" + state[1:])
    with pytest.raises(ClosedError):
        resuming.write(state)
    target.reset()
    assert target.migration().state() is RUNNING
    with target.migration().resume() as resuming, pytest.raises(DeviceError, match="Cannot allocate memory"):
        resuming.write(state + b"\0")


def test_a_reset_ends_the_transfer(source: MediatedDevice) -> None:
    migration = source.migration()
    with migration.save() as saving:
        source.reset()
        assert migration.state() is RUNNING
        with pytest.raises(DeviceError, match=r"cannot be read: .* ended this transfer, .* begin another with save"):
            saving.read()
    with migration.save() as saving:
        assert saving.read_all()


def test_closing_the_device_closes_its_transfer(iommufd: Iommufd) -> None:
    before = os.listdir("/proc/self/fd")
    with new_mediated(iommufd) as device:
        saving = device.migration().save()
        assert len(os.listdir("/proc/self/fd")) == len(before) + 2
    assert saving.closed
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ClosedError):
        saving.read()


def test_ctrl_c_leaves_no_descriptor_behind(source: MediatedDevice, target: MediatedDevice) -> None:
    before = os.listdir("/proc/self/fd")

    def check() -> None:
        assert os.listdir("/proc/self/fd") == before

    def work() -> None:
        source.reset()
        target.reset()
        state = saved(source)
        with target.migration().resume() as resuming:
            resuming.write(state)
            target.migration().set_state(RUNNING)

    assert interrupt_everywhere(work, check) > 10
