# SPDX-License-Identifier: MIT
"""The migration of a VFIO device: its state leaves one device as a stream of bytes, and enters another of its kind.

Source: enum vfio_device_mig_state in include/uapi/linux/vfio.h; Documentation/driver-api/vfio.rst.
"""

import errno
import os
from dataclasses import dataclass

from iommufd_py.base.arguments import check_integer, checked
from iommufd_py.base.errors import ArgumentValueError, DeviceError, InvalidFieldError
from iommufd_py.objects.resource import OpenFile
from iommufd_py.uapi import migration as uapi
from iommufd_py.uapi.enums import MigrationFeatures, MigrationState
from iommufd_py.vfio.file import VfioFile

_SAVING = (MigrationState.PRE_COPY, MigrationState.PRE_COPY_P2P, MigrationState.STOP_COPY)

# The feature that a state needs besides STOP_COPY.
_NEEDS = {
    MigrationState.RUNNING_P2P: MigrationFeatures.P2P,
    MigrationState.PRE_COPY: MigrationFeatures.PRE_COPY,
    MigrationState.PRE_COPY_P2P: MigrationFeatures.PRE_COPY | MigrationFeatures.P2P,
}

# Bytes of one read().
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PrecopyInfo:
    """VFIO_MIG_GET_PRECOPY_INFO: the bytes that can be read while the device runs, as the driver estimates them.

    Attributes:
        initial_bytes: the rest of the initial data.
        dirty_bytes: changes of data that was read already.
    """

    initial_bytes: int
    dirty_bytes: int


class Migration:
    """The migration of a device. Made by ``device.migration()``.

    To migrate a device, save its state, and resume a device of the same kind with it::

        with source.migration().save() as saving:
            state = saving.read_all()
        migration = target.migration()
        with migration.resume() as resuming:
            resuming.write(state)
            migration.set_state(MigrationState.RUNNING)

    To read most of the state while the device runs, use ``save(MigrationState.PRE_COPY)``, and read again after
    ``set_state(MigrationState.STOP_COPY)``.

    Attributes:
        device: the device.
        features: the kinds of migration that it supports.
    """

    @checked
    def __init__(self, device: VfioFile, features: MigrationFeatures) -> None:
        self.device = device
        self.features = features

    def __repr__(self) -> str:
        return f"Migration({self.device!r}, {self.features!r})"

    def state(self) -> MigrationState:
        """Return the present state."""
        return uapi.get_mig_device_state(self.device.fileno())

    def stop_copy_bytes(self) -> int:
        """Return how many bytes the device's state has in STOP_COPY, as the driver estimates it."""
        return uapi.device_mig_data_size(self.device.fileno())

    @checked
    def save(self, state: MigrationState = MigrationState.STOP_COPY) -> "SavingTransfer":
        """Begin to save the device's state, in STOP_COPY, PRE_COPY or PRE_COPY_P2P.

        Raises:
            ArgumentValueError: *state* is none of these.
            DeviceError: a transfer has begun already, or the device cannot reach *state*.
        """
        if state not in _SAVING:
            raise ArgumentValueError(f"save() begins in STOP_COPY, PRE_COPY or PRE_COPY_P2P, not in {state.name}")
        return SavingTransfer(self, state)

    def resume(self) -> "ResumingTransfer":
        """Begin to write a saved state to the device, which changes to RESUMING.

        Raises:
            DeviceError: a transfer has begun already, or the device cannot reach RESUMING.
        """
        return ResumingTransfer(self, MigrationState.RESUMING)

    @checked
    def set_state(self, state: MigrationState) -> None:
        """Change to a state that begins no transfer. The kernel takes the shortest way through the states between.

        Leaving RESUMING makes the device use the written state.

        Raises:
            ArgumentValueError: the change begins a transfer.
            DeviceError: the kernel refuses the change.
            IommufdError: the device fails.
        """
        before = self.state()
        if _transfer_in(state) not in (None, _transfer_in(before)):
            call = "resume()" if state is MigrationState.RESUMING else f"save(MigrationState.{state.name})"
            raise ArgumentValueError(
                f"the change of {self.device.name} from {before.name} to {state.name} begins a transfer: use {call}"
            )
        self._change(before, state)

    def _begin(self, state: MigrationState) -> int:
        """Change to a state that begins a transfer, and return the descriptor for the data."""
        before = self.state()
        if _transfer_in(before) is _transfer_in(state):
            raise DeviceError(
                f"{self.device.name} is in {before.name}, so its transfer has begun already: set_state() continues it "
                "in another state, and set_state(MigrationState.STOP) ends it"
            )
        return self._change(before, state)

    def _change(self, before: MigrationState, state: MigrationState) -> int:
        try:
            return uapi.set_mig_device_state(self.device.fileno(), state)
        except InvalidFieldError as failure:
            now = self.state()
            raise DeviceError(
                f"{self.device.name} cannot change from {before.name} to {state.name} "
                f"({failure.ioctl} of MIG_DEVICE_STATE: {failure.errno_name}), and is now in {now.name}: "
                f"{_reason(before, state, now, self.features)}"
            ) from failure


class StateTransfer(OpenFile):
    """The data of a migration, a stream of bytes with a meaning for the driver only. Closing the device closes it.

    Closing it does not change the state of the device. Its file descriptor is for the event loop of a program.
    """

    @checked
    def __init__(self, migration: Migration, state: MigrationState) -> None:
        super().__init__(migration.device)
        self.device = migration.device
        with self._opening():
            self._fd = migration._begin(state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.device.name})"


class SavingTransfer(StateTransfer):
    """The state of a device, to be read. Made by ``migration.save()``."""

    @checked
    def read(self, length: int = _CHUNK) -> bytes:
        """Return at most *length* bytes; none at the end. In PRE_COPY more can come after the end.

        Raises:
            DeviceError: the device has left the states in which it saves, or fails.
        """
        check_integer("read(): length", length, 1)
        try:
            return os.read(self.fileno(), length)
        except OSError as failure:
            # There is no more data while the device runs.
            if failure.errno == errno.ENOMSG:
                return b""
            raise DeviceError(
                f"the state of {self.device.name} cannot be read: {failure.strerror}: a reset or a change of "
                "the device's state ended this transfer, or the device failed; begin another with save()"
            ) from failure

    def read_all(self) -> bytes:
        """Return everything up to the end."""
        return b"".join(iter(self.read, b""))

    def precopy_info(self) -> PrecopyInfo:
        """Return how many bytes can be read before STOP_COPY. With none left, it is time for STOP_COPY.

        Raises:
            IommufdError: the device is in neither of the states PRE_COPY and PRE_COPY_P2P.
        """
        return PrecopyInfo(*uapi.mig_get_precopy_info(self.fileno()))


class ResumingTransfer(StateTransfer):
    """A state for a device, to be written. Made by ``migration.resume()``."""

    @checked
    def write(self, data: bytes) -> None:
        """Write *data*, which is the next part of a saved state. The parts may be split in another way than at reading.

        Raises:
            DeviceError: the driver refuses the data, or the device has left RESUMING.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self.fileno(), rest) :]
            except OSError as failure:
                raise DeviceError(
                    f"the state cannot be written to {self.device.name}: {failure.strerror}: it is not the state of a "
                    "device of the same kind, or the device has left RESUMING; reset the device, and begin again with "
                    "resume()"
                ) from failure


def _transfer_in(state: MigrationState) -> type[StateTransfer] | None:
    """Return the kind of transfer that goes on in *state*, None for none."""
    if state in _SAVING:
        return SavingTransfer
    return ResumingTransfer if state is MigrationState.RESUMING else None


def _reason(before: MigrationState, state: MigrationState, now: MigrationState, features: MigrationFeatures) -> str:
    """Return why the kernel answered EINVAL, with the remedy."""
    missing = _NEEDS.get(state, MigrationFeatures(0)) & ~features
    if state is MigrationState.ERROR:
        return "a device gets into ERROR only by itself; choose another state"
    if MigrationState.ERROR in (before, now):
        return "only a reset of the device leads out of ERROR"
    if missing:
        return f"the device has no {missing.name}; choose a state without it"
    if before is MigrationState.STOP_COPY and state in _SAVING:
        return "a device that is stopped for saving runs again first; use set_state(MigrationState.RUNNING)"
    if before is MigrationState.RESUMING:
        return (
            "the driver does not accept the state that was written to the device; write all that was read from a "
            "device of the same kind, or reset the device"
        )
    return "the driver refuses this change; its messages are in the kernel log"
