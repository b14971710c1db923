# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from iommufd_py.objects.buffer import pool_remedy


@pytest.mark.parametrize(
    ("total", "free", "reserved", "available", "wanted"),
    [(192, 42, 0, 42, 214), (0, 0, 0, 0, 64), (192, 192, 192, 0, 256), (100, 10, 3, 7, 157)],
)
def test_pool_grows_by_what_is_missing(
    tmp_path: Path, total: int, free: int, reserved: int, available: int, wanted: int
) -> None:
    """The number in nr_hugepages also counts the pages in use and the reserved pages."""
    for name, value in (("nr_hugepages", total), ("free_hugepages", free), ("resv_hugepages", reserved)):
        (tmp_path / name).write_text(f"{value}\n")
    text = pool_remedy(128 << 20, 2 << 20, tmp_path)
    assert text.startswith(f"64 free 2M huge pages are needed for 128M, and {available} are free: echo {wanted} > ")
