# SPDX-License-Identifier: MIT
"""AMD IOMMU: its feature registers decoded, and the coherency of its domains."""

from iommufd_py.amd.coherency import TableFormat, flushes_of_amd, table_format
from iommufd_py.amd.registers import EFR, EFR2, Features

__all__ = ["EFR", "EFR2", "Features", "TableFormat", "flushes_of_amd", "table_format"]
