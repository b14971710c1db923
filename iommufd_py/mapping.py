# SPDX-License-Identifier: MIT
"""What every mapped range is, in an IOAS or in a container of VFIO's type1."""

from iommufd_py.enums import MapFlags
from iommufd_py.iova import IovaRange
from iommufd_py.memory import DmaBuffer
from iommufd_py.resource import Resource
from iommufd_py.units import format_size

__all__ = ["Mapping", "MappingSpace"]


class Mapping(Resource):
    """One mapped range. Closing it unmaps it; it goes with its buffer and with where it is mapped.

    Attributes:
        buffer: the memory.
        iova: first IOVA.
        length: bytes.
        offset: where the mapping starts in its buffer, in bytes.
        flags: what DMA may do.
    """

    def __init__(
        self, space: "MappingSpace", buffer: DmaBuffer, iova: int, length: int, offset: int, flags: MapFlags
    ) -> None:
        super().__init__(space, buffer)
        self.buffer = buffer
        self.iova = iova
        self.length = length
        self.offset = offset
        self.flags = flags
        self._opened()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(iova={self.iova:#x}, length={format_size(self.length)})"

    @property
    def range(self) -> IovaRange:
        """The IOVAs."""
        return IovaRange(self.iova, self.iova + self.length - 1)

    @property
    def user_va(self) -> int:
        """Where the mapped memory starts in this process."""
        return self.buffer.user_va + self.offset


class MappingSpace(Resource):
    """What mappings are made in."""

    def _mappings(self) -> list[Mapping]:
        return [one for one in self._dependents if isinstance(one, Mapping)]

    def _forget_mappings(self, gone: IovaRange) -> None:
        """Close, without asking the kernel, the mappings that it has dropped."""
        for mapping in self._mappings():
            if gone.contains(mapping.iova, mapping.length):
                mapping._forget()
