# SPDX-License-Identifier: MIT
"""The sparse mmap areas in the information about a region."""

import struct

from iommufd_py.uapi import vfio


def test_sparse_mmap_areas() -> None:
    header = struct.pack("=HHI", 1, 1, 0)
    areas = struct.pack("=II4Q", 2, 0, 0x0, 0x1000, 0x3000, 0x5000)
    assert vfio._sparse_mmap_areas(header + areas) == ((0, 0x1000), (0x3000, 0x5000))
    assert vfio._sparse_mmap_areas(header + struct.pack("=II", 0, 0)) == ()
