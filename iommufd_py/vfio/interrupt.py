# SPDX-License-Identifier: MIT
"""The interrupts of a VFIO device, through eventfds."""

import os
import select
import struct

from iommufd_py.base.errors import DeviceError
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import IrqIndex, IrqSetFlags
from iommufd_py.vfio.file import VfioFile


class Interrupts(Resource):
    """The interrupts of one kind, each wired to an eventfd. Made by ``device.enable_irqs()``; closing disables them.

    INTx, MSI and MSI-X exclude one another.

    Args:
        index: the kind.
        count: how many vectors, from the first; default: all there are.

    Attributes:
        eventfds: one descriptor per vector, non-blocking, for an event loop of the user's.

    Raises:
        DeviceError: the device, or the machine, has not that many, or they are enabled already.
        IommufdError: another kind is enabled.

    Source: VFIO_DEVICE_SET_IRQS in include/uapi/linux/vfio.h.
    """

    def __init__(self, device: VfioFile, index: IrqIndex, count: int | None = None) -> None:
        super().__init__(device)
        self.device = device
        self.index = index
        if any(isinstance(one, Interrupts) and one.index is index for one in device._dependents):
            raise DeviceError(f"the {index.name} interrupts of {device.name} are enabled already; close those first")
        available = device.irq_info(index).count
        self.count = available if count is None else count
        if not 0 < self.count <= available:
            raise DeviceError(f"{device.name} has {available} {index.name} interrupts, {self.count} cannot be enabled")
        enable = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
        with self._opening():
            self.eventfds = tuple(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(self.count))
            try:
                granted = self._set(enable, struct.pack(f"={self.count}i", *self.eventfds))
                if granted:
                    raise DeviceError(
                        f"only {granted} of {self.count} {index.name} vectors can be had for {device.name}: ask for "
                        "fewer"
                    )
            except BaseException:
                self._close_eventfds()
                raise

    def __repr__(self) -> str:
        return f"Interrupts({self.index.name} of {self.device.name}, count={self.count})"

    def trigger(self, *vectors: int) -> None:
        """Have the kernel signal *vectors* (default: all) as if the device had raised them."""
        self._check_open()
        action = IrqSetFlags.ACTION_TRIGGER
        if not vectors:
            self._set(action | IrqSetFlags.DATA_NONE)
            return
        chosen = bytearray(self.count)
        for vector in vectors:
            chosen[vector] = 1
        self._set(action | IrqSetFlags.DATA_BOOL, bytes(chosen))

    def wait(self, vector: int = 0, timeout: float = 1.0) -> int:
        """Return how often *vector* fired since the last call, after at most *timeout* seconds; 0 if it did not."""
        self._check_open()
        poll = select.poll()
        poll.register(self.eventfds[vector], select.POLLIN)
        return os.eventfd_read(self.eventfds[vector]) if poll.poll(timeout * 1000) else 0

    def mask(self) -> None:
        """Mask the interrupt (INTx only)."""
        self._check_open()
        self._set(IrqSetFlags.ACTION_MASK | IrqSetFlags.DATA_NONE)

    def unmask(self) -> None:
        """Unmask the interrupt (INTx only), which the kernel masks each time that it fires."""
        self._check_open()
        self._set(IrqSetFlags.ACTION_UNMASK | IrqSetFlags.DATA_NONE)

    def _set(self, flags: IrqSetFlags, data: bytes = b"") -> int:
        return vfio.device_set_irqs(self.device.fileno(), flags, self.index, 0, self.count, data)

    def _release(self) -> None:
        disable = IrqSetFlags.ACTION_TRIGGER | IrqSetFlags.DATA_NONE
        try:
            vfio.device_set_irqs(self.device.fileno(), disable, self.index, 0, 0)
        finally:
            self._close_eventfds()

    def _close_eventfds(self) -> None:
        for eventfd in self.eventfds:
            os.close(eventfd)
