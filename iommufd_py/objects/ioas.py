# SPDX-License-Identifier: MIT
"""An IO address space and its mappings."""

from collections.abc import Iterable
from dataclasses import dataclass

from iommufd_py.base.arguments import check_integer, checked, checked_as
from iommufd_py.base.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BusyError,
    IommufdError,
    ObjectNotFoundError,
)
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.mappable import Mappable
from iommufd_py.objects.mapping import Mapping, MappingSpace
from iommufd_py.objects.object import IommufdFile, IommufdObject, check_same_iommufd
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.enums import IommuOption, MapFlags

_EVERYTHING = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class PhysicalRange:
    """Physically contiguous memory.

    Attributes:
        start: physical address of the first byte.
        length: bytes.
    """

    start: int
    length: int


class Ioas(IommufdObject, MappingSpace):
    """An IOAS: IOVA to user memory, for all HWPTs that are made on it. Made by ``iommufd.alloc_ioas()``.

    Source: IOMMU_IOAS_* in include/uapi/linux/iommufd.h.
    """

    @checked
    def __init__(self, iommufd: IommufdFile) -> None:
        super().__init__(iommufd)
        # The kernel's answer to the latest map or unmap, until the objects here reflect it.
        self._answer = uapi.new_answer()
        with self._opening():
            self.id = uapi.ioas_alloc(iommufd.fileno())

    def map(
        self,
        buffer: DmaBuffer,
        iova: int | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> "DmaMapping":
        """Map *length* bytes of *buffer* from *offset* (default: all of it) at *iova*; without it the kernel chooses.

        Raises:
            ArgumentValueError: the range is not inside the buffer.
            AlreadyMappedError: the IOVA range is taken.
            InvalidFieldError: the range is misaligned, empty or not allowed.
            IommufdError: ENOSPC without room for the kernel's choice, ENOMEM over RLIMIT_MEMLOCK.
        """
        # The checks are written out. The decorator @checked would take longer than the rest of this function.
        if not (
            type(buffer) is DmaBuffer
            and (iova is None or type(iova) is int)
            and type(offset) is int
            and (length is None or type(length) is int)
            and type(flags) is MapFlags
        ):
            buffer, iova, offset, length, flags = _map_arguments(buffer, iova, offset, length, flags)
        length = buffer.length - offset if length is None else length
        buffer.check_range(offset, length)
        answer = self._answer
        try:
            iova = uapi.ioas_map(
                self._fd(), self.id, buffer.user_va + offset, length, iova or 0, _with_iova(flags, iova), answer
            )
            mapping = DmaMapping(self, buffer, iova, length, offset, flags)
            answer[0] = uapi.NO_ANSWER
        except BaseException:
            self._undo_map(length)
            raise
        return mapping

    def _undo_map(self, length: int) -> None:
        """Unmap the range of an interrupted map(), if the kernel mapped it."""
        with held_signals():
            iova, self._answer[0] = self._answer[0], uapi.NO_ANSWER
            if iova in self._mapped:
                self._mapped[iova].close()
            elif iova != uapi.NO_ANSWER:
                uapi.ioas_unmap(self._fd(), self.id, iova, length)

    @checked
    def map_user_va(
        self, user_va: int, length: int, iova: int | None = None, *, flags: MapFlags = MapFlags.READ_WRITE
    ) -> int:
        """Map memory that this package does not own, and return its IOVA.

        The caller keeps the memory present and unmaps it.
        """
        return uapi.ioas_map(self._fd(), self.id, user_va, length, iova or 0, _with_iova(flags, iova))

    @checked
    def map_file(
        self,
        buffer: Mappable,
        iova: int | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> "DmaMapping":
        """Map a memfd buffer, or a :class:`Dmabuf`, through its file descriptor (IOMMU_IOAS_MAP_FILE).

        Source: f4986a72d6e4 ("iommufd: Add IOMMU_IOAS_MAP_FILE", v6.13); 44ebaa1744fd ("iommufd: Accept a DMABUF
        through IOMMU_IOAS_MAP_FILE", v6.19).

        Arguments and other errors are those of :meth:`map`.

        Raises:
            ArgumentValueError: the buffer has no file descriptor.
            IommufdError: ENODEV for a dma-buf that is revoked.
        """
        if buffer.fd is None:
            raise ArgumentValueError(f"{buffer!r} has no file descriptor: map_file needs a memfd backing")
        length = buffer.length - offset if length is None else length
        buffer.check_range(offset, length)
        fd, size = buffer.fd, length
        return self._register(
            lambda: DmaMapping(self, buffer, self.map_fd(fd, offset, size, iova, flags=flags), size, offset, flags)
        )

    @checked
    def map_fd(
        self, fd: int, start: int, length: int, iova: int | None = None, *, flags: MapFlags = MapFlags.READ_WRITE
    ) -> int:
        """Map a memfd or dma-buf from byte *start*, and return its IOVA; the caller unmaps it."""
        return uapi.ioas_map_file(self._fd(), self.id, fd, start, length, iova or 0, _with_iova(flags, iova))

    @checked
    def copy(
        self,
        source: "DmaMapping",
        iova: int | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> "DmaMapping":
        """Map the pages of *source*, a mapping of any IOAS of this iommufd, in this IOAS too. They stay pinned once.

        Raises:
            ArgumentValueError: *length* bytes from *offset* are not inside *source*.
        """
        length = source.length - offset if length is None else length
        # Behind the mapping the pages may be those of another buffer, whose end would not unmap the copy.
        source.check_range(offset, length)
        start, size = source.iova + offset, length
        return self._register(
            lambda: DmaMapping(
                self,
                source.buffer,
                self.copy_iova(source.ioas, start, size, iova, flags=flags),
                size,
                source.offset + offset,
                flags,
            )
        )

    @checked
    def copy_iova(
        self,
        source: "Ioas",
        source_iova: int,
        length: int,
        iova: int | None = None,
        *,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> int:
        """Map the pages at *source_iova* of *source* in this IOAS too, and return the IOVA. The caller unmaps them."""
        source._check_open()
        check_same_iommufd(self.iommufd, "copy", source=source)
        return uapi.ioas_copy(self._fd(), self.id, source.id, length, source_iova, iova or 0, _with_iova(flags, iova))

    def unmap(self, iova: int, length: int) -> int:
        """Unmap all mappings that lie wholly in the range; returns the bytes unmapped.

        After an error the mappings below the one that caused it are unmapped.

        Raises:
            ObjectNotFoundError: nothing is mapped there, or a mapping reaches past an end of the range.
            BusyError: a hardware queue uses a mapping.
        """
        if type(iova) is not int or type(length) is not int:
            iova, length = check_integer("Ioas.unmap(): iova", iova), check_integer("Ioas.unmap(): length", length)
        if length == _EVERYTHING and not iova:
            return self.unmap_all()
        answer = self._answer
        try:
            unmapped = uapi.ioas_unmap(self._fd(), self.id, iova, length, answer)
            self._forget_mappings(iova, length)
            answer[0] = uapi.NO_ANSWER
        except (BusyError, ObjectNotFoundError):
            self._forget_lower_mappings(iova, length)
            raise
        except BaseException:
            with held_signals():
                if answer[0] != uapi.NO_ANSWER:
                    answer[0] = uapi.NO_ANSWER
                    self._forget_mappings(iova, length)
            raise
        return unmapped

    def unmap_all(self) -> int:
        """Unmap everything; returns the bytes unmapped. Errors are those of :meth:`unmap`."""
        with held_signals():
            try:
                unmapped = uapi.ioas_unmap(self._fd(), self.id, 0, _EVERYTHING)
            except BusyError:
                self._forget_lower_mappings(0, _EVERYTHING + 1)
                raise
            self._forget_mappings(0, _EVERYTHING + 1)
        return unmapped

    def iova_ranges(self) -> IovaRanges:
        """Return the ranges in which this IOAS may map. Attaching a device narrows them."""
        ranges, alignment = uapi.ioas_iova_ranges(self._fd(), self.id)
        return IovaRanges(tuple(IovaRange(start, last) for start, last in ranges), alignment)

    @checked
    def allow_iovas(self, ranges: Iterable[IovaRange]) -> None:
        """Reserve *ranges* for mappings: the kernel refuses to attach a device that would make a part unusable.

        A call replaces the ranges of the previous call.

        Raises:
            ArgumentTypeError: a range is no :class:`IovaRange`.
            InvalidFieldError: two ranges overlap, or one is shorter than two bytes.
            IommufdError: EADDRINUSE if an attached device reserves a part.
        """
        wanted = list(ranges)
        for one in wanted:
            if not isinstance(one, IovaRange):
                raise ArgumentTypeError(f"Ioas.allow_iovas(): ranges must hold IovaRange objects, not {one!r}")
        uapi.ioas_allow_iovas(self._fd(), self.id, [(one.start, one.last) for one in wanted])

    @checked
    def noiommu_address(self, iova: int, length: int = 1) -> PhysicalRange:
        """Return the physical address of the memory at *iova*, and the contiguous part of *length* bytes.

        This works for an IOAS with an attached device that has no IOMMU (``VfioDevice.noiommu``). Such a device uses
        physical addresses, and nothing stops it from using others.

        Raises:
            NotSupportedError: the IOAS has no such device, or also has a device behind an IOMMU.
            ObjectNotFoundError: nothing is mapped at *iova*.

        Source: IOMMU_IOAS_NOIOMMU_GET_PA in include/uapi/linux/iommufd.h, since Linux 7.3.
        """
        return PhysicalRange(*uapi.ioas_noiommu_get_pa(self._fd(), self.id, iova, length))

    @property
    def huge_pages(self) -> bool:
        """Whether contiguous pages may become larger IOMMU pages (IOMMU_OPTION_HUGE_PAGES)."""
        return bool(uapi.option_get(self._fd(), IommuOption.HUGE_PAGES, self.id))

    @huge_pages.setter
    @checked
    def huge_pages(self, allowed: bool) -> None:
        uapi.option_set(self._fd(), IommuOption.HUGE_PAGES, int(allowed), self.id)

    def dma_cc(self) -> bool:
        """Return whether every HWPT of this IOAS enforces cache coherency (VFIO_DMA_CC_IOMMU)."""
        self._check_open()
        return self.iommufd.dma_cc(self)


class DmaMapping(Mapping):
    """A range mapped in an IOAS."""

    _space: Ioas

    @property
    def ioas(self) -> Ioas:
        """The IOAS of the mapping."""
        return self._space

    def close(self) -> None:
        """Unmap the range."""
        if self._dependents:
            super().close()
            return
        if not self._open:
            return
        # Without held_signals(), which takes longer than the ioctl.
        ioas = self._space
        answer = ioas._answer
        try:
            uapi.ioas_unmap(ioas.iommufd._fd, ioas.id, self.iova, self.length, answer)
            self._mark_closed()
            answer[0] = uapi.NO_ANSWER
        except BaseException as failure:
            with held_signals():
                refused = isinstance(failure, IommufdError)
                if self._open and (refused or answer[0] != uapi.NO_ANSWER):
                    self._mark_closed()
                answer[0] = uapi.NO_ANSWER
            raise

    def _release(self) -> None:
        uapi.ioas_unmap(self.ioas.iommufd.fileno(), self.ioas.id, self.iova, self.length)


@checked_as("Ioas.map")
def _map_arguments(
    buffer: DmaBuffer, iova: int | None, offset: int, length: int | None, flags: MapFlags
) -> tuple[DmaBuffer, int | None, int, int | None, MapFlags]:
    """Check the arguments of Ioas.map(), and return them in their own types."""
    return buffer, iova, offset, length, flags


def _with_iova(flags: MapFlags, iova: int | None) -> int:
    return int(flags) | (uapi.FIXED_IOVA if iova is not None else 0)
