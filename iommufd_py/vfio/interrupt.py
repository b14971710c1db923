# SPDX-License-Identifier: MIT
"""The interrupts of a VFIO device, through eventfds."""

import os
import resource
import select
import struct

from iommufd_py.base.arguments import check_integer, checked, milliseconds
from iommufd_py.base.errors import DeviceError
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import IrqIndex, IrqSetFlags
from iommufd_py.vfio.file import VfioFile


class Interrupts(Resource):
    """The interrupts of one kind, each connected to an eventfd. Made by ``device.enable_irqs()``; closing disables
    them.

    INTx, MSI and MSI-X exclude one another.

    Args:
        device: the open device.
        index: the kind.
        count: number of vectors, from the first. ``device.irq_info(index).count`` is the device's number.

    Attributes:
        eventfds: one descriptor per vector, non-blocking, for the event loop of a program.

    Raises:
        DeviceError: the device or the machine has fewer vectors, the process has too few file descriptors left, or
            the interrupts are enabled already.
        IommufdError: another kind is enabled.

    Source: VFIO_DEVICE_SET_IRQS in include/uapi/linux/vfio.h.
    """

    @checked
    def __init__(self, device: VfioFile, index: IrqIndex, count: int = 1) -> None:
        super().__init__(device)
        self.device = device
        self.index = index
        if any(isinstance(one, Interrupts) and one.index is index for one in device._dependents):
            raise DeviceError(f"the {index.name} interrupts of {device.name} are enabled already; close those first")
        available = device.irq_info(index).count
        self.count = count
        if not 0 < count <= available:
            raise DeviceError(f"{device.name} has {available} {index.name} interrupts, {count} cannot be enabled")
        enable = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
        self.eventfds: tuple[int, ...] = ()
        with self._opening():
            try:
                self._make_eventfds()
                granted = self._set(enable, struct.pack(f"={self.count}i", *self.eventfds))
                if granted:
                    raise DeviceError(
                        f"the kernel has {granted} of {count} {index.name} vectors for {device.name}: ask for fewer"
                    )
            except BaseException:
                self._close_eventfds()
                raise

    def _make_eventfds(self) -> None:
        while len(self.eventfds) < self.count:
            try:
                self.eventfds += (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),)
            except OSError as failure:
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                raise DeviceError(
                    f"{self.count} {self.index.name} interrupts of {self.device.name} need as many file descriptors, "
                    f"but eventfd() fails for number {len(self.eventfds) + 1}: {failure.strerror}; ask for fewer, or "
                    f"raise RLIMIT_NOFILE (ulimit -n), which is {limit}"
                ) from failure

    def __repr__(self) -> str:
        return f"Interrupts({self.index.name} of {self.device.name}, count={self.count})"

    @checked
    def trigger(self, *vectors: int) -> None:
        """Make the kernel signal *vectors* (default: all) as if the device had raised them."""
        self._check_open()
        action = IrqSetFlags.ACTION_TRIGGER
        if not vectors:
            self._set(action | IrqSetFlags.DATA_NONE)
            return
        chosen = bytearray(self.count)
        for vector in vectors:
            chosen[self._check_vector(vector)] = 1
        self._set(action | IrqSetFlags.DATA_BOOL, bytes(chosen))

    @checked
    def wait(self, vector: int = 0, timeout: float | None = None) -> int:
        """Return the number of times that *vector* fired since the last call. Wait at most *timeout* seconds (None:
        without limit).

        Returns 0 if the vector did not fire in that time.
        """
        self._check_open()
        eventfd = self.eventfds[self._check_vector(vector)]
        poll = select.poll()
        poll.register(eventfd, select.POLLIN)
        return os.eventfd_read(eventfd) if poll.poll(milliseconds("timeout", timeout)) else 0

    def _check_vector(self, vector: int) -> int:
        return check_integer(f"{self!r}: vector", vector, 0, self.count - 1)

    def mask(self) -> None:
        """Mask the interrupt (INTx only)."""
        self._check_open()
        self._set(IrqSetFlags.ACTION_MASK | IrqSetFlags.DATA_NONE)

    def unmask(self) -> None:
        """Unmask the interrupt (INTx only). The kernel masks it each time that it fires."""
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
