# SPDX-License-Identifier: MIT
"""Registers of hardware, field by field. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """Some adjoining bits of a register.

    Attributes:
        name: the abbreviation in the specification.
        low: lowest bit.
        meaning: the meaning of a set bit, or of the number in the field.
        width: number of bits.
    """

    name: str
    low: int
    meaning: str
    width: int = 1

    @property
    def mask(self) -> int:
        """The bits of the register that are this field."""
        return (1 << self.width) - 1 << self.low

    @property
    def bits(self) -> str:
        """The bits as the specification writes them: ``7``, ``21:16``."""
        return str(self.low) if self.width == 1 else f"{self.low + self.width - 1}:{self.low}"

    def of(self, register: int) -> int:
        """Return the field's value in *register*."""
        return (register & self.mask) >> self.low


def decode(fields: Sequence[Field], register: int) -> dict[str, int]:
    """Return the value of every field by its name."""
    return {field.name: field.of(register) for field in fields}


def reserved_bits(fields: Sequence[Field], register: int) -> tuple[int, ...]:
    """Return the bits that are set but belong to no field: newer or older than the revision decoded here."""
    for field in fields:
        register &= ~field.mask
    return tuple(bit for bit in range(64) if register >> bit & 1)
