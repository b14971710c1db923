# SPDX-License-Identifier: MIT
"""The remedy for a pool of huge pages that is too small, in a directory like the kernel's."""

from pathlib import Path

import pytest

from iommufd_py.objects.buffer import pool_remedy


def write_pool(directory: Path, total: int, free: int, reserved: int) -> None:
    for name, value in (("nr_hugepages", total), ("free_hugepages", free), ("resv_hugepages", reserved)):
        (directory / name).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("total", "free", "reserved", "available", "wanted"),
    [(192, 42, 0, 42, 214), (0, 0, 0, 0, 64), (192, 192, 192, 0, 256), (100, 10, 3, 7, 157)],
)
def test_the_pool_grows_by_the_missing_pages(
    tmp_path: Path, total: int, free: int, reserved: int, available: int, wanted: int
) -> None:
    """The number in nr_hugepages also counts the pages in use and the reserved pages."""
    write_pool(tmp_path, total, free, reserved)
    text = pool_remedy(128 << 20, 2 << 20, tmp_path)
    assert text.startswith(f"64 free 2M huge pages are needed for 128M, and {available} are free: echo {wanted} > ")


def test_pool_that_is_large_enough(tmp_path: Path) -> None:
    """The kernel answers ENOMEM also over RLIMIT_AS. A larger pool would not help."""
    write_pool(tmp_path, 100, 70, 6)
    text = pool_remedy(128 << 20, 2 << 20, tmp_path)
    assert text.endswith(
        "and 64 are free, but a limit forbids their use: raise it (ulimit -v, or hugetlb of the cgroup)"
    )
