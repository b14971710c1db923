# SPDX-License-Identifier: MIT
"""The timed loops of the extension: the GIL is released, and no Python runs between two clock reads."""

from array import array
from collections.abc import Sequence

from iommufd_py.errors import check
from iommufd_py.ffi import ffi, lib

__all__ = ["clock_ns", "empty_ioctl", "map_unmap"]


def clock_ns() -> int:
    """Return CLOCK_MONOTONIC_RAW, the clock of all samples, in nanoseconds."""
    return lib.iommufd_bench_clock_ns()


def map_unmap(
    fd: int, ioas_id: int, user_va: int, length: int, iova: int, count: int
) -> tuple[Sequence[int], Sequence[int]]:
    """Map and unmap a range *count* times; returns the times of each IOAS_MAP and of each IOAS_UNMAP in ns.

    Every cache line of the buffer is written before each map, outside the timed part.
    """
    # Written once here, so that the pages of the sample arrays are present before the clock starts.
    map_ns, unmap_ns = (array("Q", bytes(8 * count)) for _ in range(2))
    done, in_unmap = ffi.new("uint32_t *"), ffi.new("_Bool *")
    result = lib.iommufd_bench_map_unmap(
        fd,
        ioas_id,
        ffi.cast("void *", user_va),
        length,
        iova,
        count,
        ffi.from_buffer("uint64_t[]", map_ns, require_writable=True),
        ffi.from_buffer("uint64_t[]", unmap_ns, require_writable=True),
        done,
        in_unmap,
    )
    arguments = {"ioas_id": ioas_id, "user_va": user_va, "length": length, "iova": iova, "round": done[0]}
    check(result, "IOMMU_IOAS_UNMAP" if in_unmap[0] else "IOMMU_IOAS_MAP", arguments)
    return map_ns, unmap_ns


def empty_ioctl(fd: int, ioas_id: int, count: int) -> Sequence[int]:
    """Return the times in ns of *count* ioctls that only read an option: the floor below any IOAS_MAP."""
    samples = array("Q", bytes(8 * count))
    result = lib.iommufd_bench_empty_ioctl(
        fd, ioas_id, count, ffi.from_buffer("uint64_t[]", samples, require_writable=True)
    )
    check(result, "IOMMU_OPTION", {"object_id": ioas_id})
    return samples
