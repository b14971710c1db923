# SPDX-License-Identifier: MIT
"""Intel VT-d: the units of this machine, their registers decoded, and the leaves of a device's page table."""

from iommufd_py.base.register import Field, decode, reserved_bits
from iommufd_py.vtd.leaves import MAX_BYTES, all_leaf_sizes, leaf_sizes, parse_leaf_sizes
from iommufd_py.vtd.registers import CAP, ECAP, Capabilities
from iommufd_py.vtd.units import DmarUnit, dmar_units, parse_translation_modes

__all__ = [
    "CAP",
    "ECAP",
    "MAX_BYTES",
    "Capabilities",
    "DmarUnit",
    "Field",
    "all_leaf_sizes",
    "decode",
    "dmar_units",
    "leaf_sizes",
    "parse_leaf_sizes",
    "parse_translation_modes",
    "reserved_bits",
]
