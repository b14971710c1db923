# SPDX-License-Identifier: MIT
"""IOVA ranges: addresses in the device's address space."""

from dataclasses import dataclass

from iommufd_py.base.arguments import check_fields, check_integer, checked
from iommufd_py.base.errors import ArgumentTypeError, ArgumentValueError
from iommufd_py.base.shown import shown, shown_number
from iommufd_py.base.units import round_up


@dataclass(frozen=True, slots=True, order=True)
class IovaRange:
    """An interval of IOVA; *last* is inclusive, as in the uAPI (struct iommu_iova_range)."""

    start: int
    last: int

    def __post_init__(self) -> None:
        if type(self.start) is not int or type(self.last) is not int:
            check_fields(self)
        if not 0 <= self.start <= self.last < 1 << 64:
            raise ArgumentValueError(
                f"{shown_number(self.start)} to {shown_number(self.last)} is not an IOVA range: it must be ascending "
                "and inside 64 bits"
            )

    @property
    def length(self) -> int:
        """Bytes."""
        return self.last - self.start + 1

    @checked
    def contains(self, iova: int, length: int = 1) -> bool:
        """Return whether *length* bytes from *iova* lie wholly inside."""
        return self.start <= iova and iova + length - 1 <= self.last

    @checked
    def overlaps(self, other: "IovaRange") -> bool:
        """Return whether some IOVA is in both."""
        return self.start <= other.last and other.start <= self.last

    @checked
    def first_fit(self, length: int, alignment: int) -> int | None:
        """Return the lowest multiple of *alignment* at which *length* bytes fit inside, or None."""
        check_integer("first_fit(): length", length, 1)
        check_integer("first_fit(): alignment", alignment, 1)
        iova = round_up(self.start, alignment)
        return iova if self.contains(iova, length) else None

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.last:#x}"


@dataclass(frozen=True, slots=True)
class IovaRanges:
    """The ranges in which an IOAS may map, and the alignment in bytes of IOVA and length (IOMMU_IOAS_IOVA_RANGES)."""

    ranges: tuple[IovaRange, ...]
    alignment: int

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("IovaRanges(): alignment", self.alignment, 1)
        for one in self.ranges:
            if not isinstance(one, IovaRange):
                raise ArgumentTypeError(f"IovaRanges(): ranges must be IovaRange objects, not {shown(one)}")

    @checked
    def first_fit(self, length: int, alignment: int, *, lowest: int = 0) -> int | None:
        """Return the first multiple of *alignment*, not below *lowest*, where *length* bytes fit into one range."""
        for one in self.ranges:
            if one.last < lowest:
                continue
            iova = IovaRange(max(one.start, lowest), one.last).first_fit(length, alignment)
            if iova is not None:
                return iova
        return None
