# SPDX-License-Identifier: MIT
"""The AMD IOMMU: decodes its feature registers and derives the coherency of its domains."""

from iommufd_py.amd.coherency import TableFormat, flushes_of_amd, table_format
from iommufd_py.amd.registers import EFR, EFR2, Features

__all__ = ["EFR", "EFR2", "Features", "TableFormat", "flushes_of_amd", "table_format"]
