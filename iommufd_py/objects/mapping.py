# SPDX-License-Identifier: MIT
"""Mapped ranges of an IOAS or of a type1 container, and the space that holds them."""

from collections.abc import Callable
from typing import TypeVar

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import ArgumentTypeError, ArgumentValueError
from iommufd_py.base.iova import IovaRange
from iommufd_py.base.shown import shown
from iommufd_py.base.signals import held_signals
from iommufd_py.base.units import format_size
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.mappable import Mappable, check_inside
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import MapFlags


class Mapping(Resource):
    """One mapped range. Closing it, its buffer or its space unmaps it.

    Attributes:
        buffer: the memory.
        iova: first IOVA.
        length: bytes.
        offset: start of the mapping in its buffer, in bytes.
        flags: whether DMA may read and write.
    """

    def __init__(
        self, space: "MappingSpace", buffer: Mappable, iova: int, length: int, offset: int, flags: MapFlags
    ) -> None:
        # Programs make thousands of mappings by ioctls that take microseconds. So this constructor does the work of
        # Resource's constructor itself, for exactly two parents. Resource's calls and loops would take 0.4 us.
        if not (isinstance(space, MappingSpace) and isinstance(buffer, Mappable)):
            raise ArgumentTypeError(
                f"a {type(self).__name__} is made by map() of an IOAS or container, not of {shown(space)} and "
                f"{shown(buffer)}"
            )
        self._stands_on = space, buffer
        self._dependents = {}
        self._maker = self._process
        self.buffer = buffer
        self.iova = iova
        self.length = length
        self.offset = offset
        self.flags = flags
        self._space = space
        self._open = True
        space._dependents[self] = buffer._dependents[self] = None
        space._mapped[iova] = self

    def _mark_closed(self) -> None:
        space = self._space
        # Python handles signals after a call. No call follows this one, so a signal cannot leave half of the work.
        if space._mapped.get(self.iova) is self:
            del space._mapped[self.iova]
        self._open = False
        del space._dependents[self], self.buffer._dependents[self]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(iova={self.iova:#x}, length={format_size(self.length)})"

    @checked
    def check_range(self, offset: int, length: int) -> None:
        """Raise ArgumentValueError unless the range lies inside the mapping."""
        self._check_open()
        check_inside(self, self.length, offset, length)

    @property
    def range(self) -> IovaRange:
        """The IOVAs."""
        return IovaRange(self.iova, self.iova + self.length - 1)

    @property
    def user_va(self) -> int:
        """Address of the mapped memory in this process.

        Raises:
            ArgumentValueError: the memory belongs to a device and has no address in this process.
        """
        if not isinstance(self.buffer, DmaBuffer):
            raise ArgumentValueError(
                f"{self.buffer!r} has no address in this process: map its region with Region.mmap()"
            )
        return self.buffer.user_va + self.offset


_AnyMapping = TypeVar("_AnyMapping", bound=Mapping)


class MappingSpace(Resource):
    """A resource that holds mappings and finds them by IOVA. The time does not depend on their number."""

    def __init__(self, *stands_on: Resource) -> None:
        super().__init__(*stands_on)
        self._mapped: dict[int, Mapping] = {}

    def _register(self, map_it: Callable[[], _AnyMapping]) -> _AnyMapping:
        """Return the mapping that *map_it* makes in the kernel and then registers here.

        Signals are held between both: else the buffer could be closed while a device still reaches its pages.
        """
        mapping = None
        try:
            with held_signals():
                mapping = map_it()
        except BaseException:
            if mapping is not None:
                mapping.close()
            raise
        return mapping

    def _forget_mappings(self, iova: int, length: int) -> None:
        """Mark the mappings of a range closed, without an ioctl: the kernel has already unmapped them."""
        whole = self._mapped.get(iova)
        if whole is not None and whole.length == length:
            whole._mark_closed()
            return
        for mapping in tuple(self._mapped.values()):
            if iova <= mapping.iova and mapping.iova + mapping.length <= iova + length:
                mapping._mark_closed()

    def _forget_lower_mappings(self, iova: int, length: int) -> None:
        """Mark the mappings closed that the kernel unmapped before it refused the rest of a range.

        It unmaps in ascending order, up to a mapping that is only partly in the range, or that a hardware queue uses.
        """
        wanted = IovaRange(iova, iova + length - 1)
        refused = min(
            (
                one.iova
                for one in self._mapped.values()
                if wanted.overlaps(one.range) and (one._dependents or not wanted.contains(one.iova, one.length))
            ),
            default=iova,
        )
        self._forget_mappings(iova, refused - iova)
