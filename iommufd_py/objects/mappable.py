# SPDX-License-Identifier: MIT
"""Memory that an IOAS can map."""

from iommufd_py.base.arguments import check_integer
from iommufd_py.base.errors import ArgumentValueError
from iommufd_py.base.shown import shown_number
from iommufd_py.objects.resource import Resource


class Mappable(Resource):
    """Memory that an IOAS can map: a buffer of this process, or memory of a device. Closing the memory unmaps it.

    Attributes:
        length: bytes.
        fd: a descriptor for IOMMU_IOAS_MAP_FILE; None for memory without one.
    """

    length: int
    fd: int | None

    def check_range(self, offset: int, length: int) -> None:
        """Raise ArgumentValueError unless the range lies inside the memory."""
        self._check_open()
        check_inside(self, self.length, offset, length)


def check_inside(whole: Resource, size: int, offset: int, length: int) -> None:
    """Raise ArgumentValueError unless *length* bytes from *offset* lie inside the *size* bytes of *whole*."""
    if type(offset) is not int or type(length) is not int:
        offset, length = check_integer("offset", offset), check_integer("length", length)
    if not 0 <= offset <= size:
        raise ArgumentValueError(f"offset {shown_number(offset)} is not inside {whole!r}")
    if length < 0 or offset + length > size:
        raise ArgumentValueError(
            f"{shown_number(length)} bytes from offset {shown_number(offset)} are not inside {whole!r}"
        )
