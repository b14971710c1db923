# SPDX-License-Identifier: MIT
"""Why the kernel gives no transparent 2M pages: the message names the setting that decides."""

import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py import BackingError, DmaBuffer
from iommufd_py.objects.buffer import thp_refusal

STATUS = "Name:\tx\nTHP_enabled:\t1\n"
PROGRAM = """
import ctypes
from iommufd_py import DmaBuffer
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
DmaBuffer(2 << 20, "thp")
"""


def settings(directory: Path, for_all: str, for_2m: str | None) -> Path:
    (directory / "enabled").write_text(for_all)
    if for_2m is not None:
        (directory / "hugepages-2048kB").mkdir()
        (directory / "hugepages-2048kB/enabled").write_text(for_2m)
    return directory


@pytest.mark.parametrize(
    ("for_all", "for_2m", "decides"),
    [
        ("always madvise [never]", None, "enabled"),
        ("always madvise [never]", "always [inherit] madvise never", "enabled"),
        ("always [madvise] never", "always inherit madvise [never]", "hugepages-2048kB/enabled"),
        ("[always] madvise never", "always inherit madvise [never]", "hugepages-2048kB/enabled"),
        ("always madvise [never]", "always inherit [madvise] never", None),
        ("always [madvise] never", "always [inherit] madvise never", None),
        ("always [madvise] never", None, None),
    ],
)
def test_the_setting_that_decides_is_named(
    tmp_path: Path, for_all: str, for_2m: str | None, decides: str | None
) -> None:
    """Source: thp_vma_allowable_orders() in include/linux/huge_mm.h."""
    refusal = thp_refusal(settings(tmp_path, for_all, for_2m), STATUS)
    named = decides and f"transparent huge pages are off: echo madvise > {tmp_path / decides}"
    assert refusal == named


def test_a_kernel_without_them(tmp_path: Path) -> None:
    """There is nothing to switch on."""
    assert thp_refusal(tmp_path, STATUS) == "this kernel has no transparent huge pages; choose another backing"


def test_a_process_without_them() -> None:
    """A service manager can switch them off for a service. The memory was called fragmented."""
    try:
        DmaBuffer(2 << 20, "thp").close()  # type: ignore[arg-type]
    except BackingError as failure:
        pytest.skip(str(failure))
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert "PR_SET_THP_DISABLE: start it from another shell, or use hugetlb-2m" in done.stderr
