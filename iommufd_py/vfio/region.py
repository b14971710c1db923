# SPDX-License-Identifier: MIT
"""The regions of a VFIO device: BARs, expansion ROM, configuration space."""

import mmap
import os
from typing import Literal

from iommufd_py.base.arguments import check_integer, checked
from iommufd_py.base.errors import ArgumentValueError, DeviceError, reason_of
from iommufd_py.base.shown import shown_number
from iommufd_py.base.units import format_size
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import vfio
from iommufd_py.uapi.call import address_of_buffer
from iommufd_py.uapi.enums import RegionIndex
from iommufd_py.vfio.file import VfioFile

_WIDTHS = (1, 2, 4, 8)
_KINDS: tuple[Literal["B", "H", "I", "Q"], ...] = ("B", "H", "I", "Q")


class Region:
    """One region of a device, read and written through the device's file. Made by ``device.region()``.

    Integers are little-endian, as on the PCI bus. vfio-pci accesses an aligned integer of 1, 2 or 4 bytes by one load
    or store. It accesses a misaligned integer by several, in ascending order.

    An aligned integer of 8 bytes takes one load or store only in a BAR of memory, and only on a 64-bit kernel since
    4df13a6871d9 ("vfio/pci: Support 8-byte PCI loads and stores", v6.11), on x86 since 2b938e3db335 ("vfio/pci: Enable
    iowrite64 and ioread64 for vfio pci", v6.14). A BAR of I/O ports, the expansion ROM, the configuration space and
    other kernels take two loads or stores of 4 bytes, the lower half first. The device can change the register between
    the two. :meth:`mmap` has no such limit.

    The driver of a mediated device decides about the accesses to its regions.

    Attributes:
        info: size, flags and mappable areas, from the kernel.

    Source: VFIO_DEVICE_GET_REGION_INFO in include/uapi/linux/vfio.h; vfio_pci_core_do_io_rw() and vfio_config_do_rw()
    in drivers/vfio/pci, v7.3.
    """

    @checked
    def __init__(self, device: VfioFile, index: RegionIndex | int) -> None:
        self.device = device
        self.info = vfio.device_get_region_info(device.fileno(), index)

    def __repr__(self) -> str:
        known = self.info.index in RegionIndex.__members__.values()
        name = RegionIndex(self.info.index).name if known else f"region {self.info.index}"
        return f"{name} of {self.device.name}"

    @checked
    def read(self, offset: int, length: int) -> bytes:
        """Return *length* bytes from *offset*.

        Raises:
            DeviceError: the device does not answer, or the region cannot be read.
        """
        self._check_range(offset, length)
        try:
            data = os.pread(self.device.fileno(), length, self.info.offset + offset)
        except OSError as failure:
            raise self._refusal("read", offset, length, failure) from failure
        if len(data) != length:
            raise self._refusal("read", offset, length, f"only {len(data)} came")
        return data

    @checked
    def write(self, offset: int, data: bytes) -> None:
        """Write *data* to *offset*.

        Raises:
            DeviceError: the device does not answer, or the region cannot be written.
        """
        self._check_range(offset, len(data))
        try:
            written = os.pwrite(self.device.fileno(), data, self.info.offset + offset)
        except OSError as failure:
            raise self._refusal("written", offset, len(data), failure) from failure
        if written != len(data):
            raise self._refusal("written", offset, len(data), f"only {written} went")

    @checked
    def read_int(self, offset: int, width: int) -> int:
        """Return the unsigned integer of *width* (1, 2, 4 or 8) bytes at *offset*; 8 bytes can take two loads."""
        _check_width(width)
        return int.from_bytes(self.read(offset, width), "little")

    @checked
    def write_int(self, offset: int, value: int, width: int) -> None:
        """Write *value* as an unsigned integer of *width* (1, 2, 4 or 8) bytes to *offset*; 8 can take two stores."""
        _check_width(width)
        check_integer(f"{self!r}: value", value, 0, (1 << 8 * width) - 1)
        self.write(offset, value.to_bytes(width, "little"))

    @checked
    def mmap(self, offset: int = 0, length: int | None = None) -> "RegionMapping":
        """Map *length* bytes (default: the rest) from *offset*, a multiple of the page size, into this process.

        Raises:
            DeviceError: the region, or this part of it, cannot be mapped.
        """
        return RegionMapping(self, offset, self.info.size - offset if length is None else length)

    @checked
    def ioeventfd(self, offset: int, value: int, width: int) -> "IoEventFd":
        """Let the kernel write *value*, *width* (1, 2, 4 or 8) bytes, at *offset* when an eventfd is signalled."""
        _check_width(width)
        self._check_range(offset, width)
        check_integer(f"{self!r}: value", value, 0, (1 << 8 * width) - 1)
        return IoEventFd(self, offset, value, width)

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.info.size:
            raise ArgumentValueError(
                f"{length} bytes from offset {offset:#x} are not inside {self!r} ({format_size(self.info.size)})"
            )

    def _refusal(self, done: str, offset: int, length: int, reason: OSError | str) -> DeviceError:
        return DeviceError(
            f"{length} bytes at {offset:#x} of {self!r} cannot be {done}: {reason}; is memory or IO decoding on in the "
            "device's command register?"
        )


class RegionMapping(Resource):
    """Part of a region, mapped into this process. Each access is a load or store of the device's register.

    An access while memory decoding is off in the device's command register ends the process with SIGBUS.

    Attributes:
        user_va: its address in this process.
        length: bytes.
    """

    @checked
    def __init__(self, region: Region, offset: int, length: int) -> None:
        super().__init__(region.device)
        self.region = region
        self.offset = offset
        self.length = length
        areas = region.info.mmap_areas
        if not areas:
            raise DeviceError(f"{region!r} cannot be mapped: use its read() and write()")
        if not any(start <= offset < offset + length <= start + size for start, size in areas):
            allowed = ", ".join(f"{start:#x}-{start + size - 1:#x}" for start, size in areas)
            raise DeviceError(f"{length} bytes at {offset:#x} of {region!r} cannot be mapped, only {allowed} of it")
        if offset % mmap.PAGESIZE:
            raise ArgumentValueError(
                f"{region!r} cannot be mapped from {offset:#x}: give a multiple of the page size, {mmap.PAGESIZE:#x}"
            )
        try:
            self._memory = mmap.mmap(region.device.fileno(), length, offset=region.info.offset + offset)
        except OSError as failure:
            raise DeviceError(f"{region!r} cannot be mapped: {failure.strerror}") from failure
        self.user_va = address_of_buffer(self._memory)
        self._bytes = memoryview(self._memory)
        # A part may end inside a register of 8 bytes.
        self._registers: dict[int, memoryview[int]] = {
            width: self._bytes[: length - length % width].cast(kind)
            for width, kind in zip(_WIDTHS, _KINDS, strict=True)
            if width <= length
        }
        self._mark_open()

    def __repr__(self) -> str:
        return f"RegionMapping({self.region!r}, offset={self.offset:#x}, length={format_size(self.length)})"

    def read_int(self, offset: int, width: int) -> int:
        """Load the unsigned integer of *width* (1, 2, 4 or 8) bytes at *offset* of the mapping, a multiple of it."""
        return self._register(offset, width)[offset // width]

    def write_int(self, offset: int, value: int, width: int) -> None:
        """Store *value* as an unsigned integer of *width* (1, 2, 4 or 8) bytes at *offset* of the mapping."""
        register = self._register(offset, width)
        if type(value) is not int:  # A memoryview takes a bool.
            check_integer(f"{self!r}: value", value)
        try:
            register[offset // width] = value
        except (TypeError, ValueError):
            check_integer(f"{self!r}: value", value, 0, (1 << 8 * width) - 1)
            raise

    def _register(self, offset: int, width: int) -> "memoryview[int]":
        self._check_open()
        _check_width(width)
        if type(offset) is not int:
            check_integer(f"{self!r}: offset", offset)
        if offset % width or not 0 <= offset <= self.length - width:
            raise ArgumentValueError(f"there is no {width}-byte register at offset {shown_number(offset)} of {self!r}")
        return self._registers[width]

    def _release(self) -> None:
        for view in (*self._registers.values(), self._bytes):
            view.release()
        self._memory.close()


class IoEventFd(Resource):
    """A write to a BAR by the kernel, each time an eventfd is signalled. Made by ``region.ioeventfd()``.

    A hypervisor uses it to let a guest ring a doorbell without an exit to user space. Closing it ends the writes.

    Attributes:
        eventfd: the descriptor; a write of 8 bytes to it, such as by :func:`os.eventfd_write`, signals it.

    Raises:
        DeviceError: too many files are open.
        IommufdError: EINVAL for a region that is not a BAR, and for 8 bytes on a kernel without such stores; EEXIST for
            the same write a second time.

    Source: VFIO_DEVICE_IOEVENTFD in include/uapi/linux/vfio.h.
    """

    @checked
    def __init__(self, region: Region, offset: int, value: int, width: int) -> None:
        super().__init__(region.device)
        self.region = region
        self.offset = offset
        self.value = value
        self.width = width
        with self._opening():
            try:
                self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError as failure:
                raise DeviceError(f"{region!r} gets no eventfd: {reason_of(failure)}") from failure
            try:
                self._wire(self.eventfd)
            except BaseException:
                os.close(self.eventfd)
                raise

    def __repr__(self) -> str:
        return f"IoEventFd({self.region!r}, offset={self.offset:#x}, value={self.value:#x})"

    def signal(self) -> None:
        """Signal the eventfd; the kernel writes soon afterwards."""
        self._check_open()
        os.eventfd_write(self.eventfd, 1)

    def _wire(self, eventfd: int) -> None:
        at = self.region.info.offset + self.offset
        vfio.device_ioeventfd(self.region.device.fileno(), self.width, at, self.value, eventfd)

    def _release(self) -> None:
        try:
            self._wire(-1)
        finally:
            os.close(self.eventfd)


def _check_width(width: int) -> None:
    if type(width) is not int:
        check_integer("width", width)
    if width not in _WIDTHS:
        raise ArgumentValueError(f"an access must be 1, 2, 4 or 8 bytes wide, not {shown_number(width)}")
