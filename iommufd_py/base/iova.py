# SPDX-License-Identifier: MIT
"""Addresses as the device sees them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class IovaRange:
    """An interval of IOVA; *last* is inclusive, as in the uAPI (struct iommu_iova_range)."""

    start: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.last < 1 << 64:
            raise ValueError(f"no IOVA range: {self.start:#x} to {self.last:#x}")

    @property
    def length(self) -> int:
        """Bytes."""
        return self.last - self.start + 1

    def contains(self, iova: int, length: int = 1) -> bool:
        """Tell whether *length* bytes from *iova* lie wholly inside."""
        return self.start <= iova and iova + length - 1 <= self.last

    def overlaps(self, other: "IovaRange") -> bool:
        """Tell whether some IOVA is in both."""
        return self.start <= other.last and other.start <= self.last

    def first_fit(self, length: int, alignment: int) -> int | None:
        """Return the lowest multiple of *alignment* at which *length* bytes fit inside, or None."""
        iova = -(-self.start // alignment) * alignment
        return iova if self.contains(iova, length) else None

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.last:#x}"


@dataclass(frozen=True, slots=True)
class IovaRanges:
    """Where an IOAS may map, and the bytes to which IOVA and length must be aligned (IOMMU_IOAS_IOVA_RANGES)."""

    ranges: tuple[IovaRange, ...]
    alignment: int

    def first_fit(self, length: int, alignment: int, *, lowest: int = 0) -> int | None:
        """Return the first multiple of *alignment*, not below *lowest*, where *length* bytes fit into one range."""
        for one in self.ranges:
            if one.last < lowest:
                continue
            iova = IovaRange(max(one.start, lowest), one.last).first_fit(length, alignment)
            if iova is not None:
                return iova
        return None
