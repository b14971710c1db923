# SPDX-License-Identifier: MIT
"""Every case of the kernel's iommu and vfio selftests has a test of the same name, or is listed here with a reason.

`iommufd lab selftest` runs the C programs themselves. A case that passes there and fails here is a fault of this tool.
"""

import re
from pathlib import Path

import pytest

from iommufd_py.lab import paths
from iommufd_py.lab.source import SERIES

ROOT = Path(__file__).parents[3]
ELSEWHERE = {
    "iommufd_dirty_tracking.get_dirty_bitmap_no_clear": "a parameter of test_get_dirty_bitmap",
    "vfio_pci_device_init_perf_test.init": "a benchmark",
}
_CASE = re.compile(r"^TEST_(?:F|F_TIMEOUT|FAIL_NTH)\((\w+), (\w+)", re.MULTILINE)


def test_every_case_of_the_newest_series_has_a_test() -> None:
    trees = sorted(paths.sources_dir().glob(f"linux-source-{SERIES[0]}_*/tools/testing/selftests"))
    if not trees:
        pytest.skip(f"the source of {SERIES[0]} is not in the lab's cache: 'iommufd lab kernel build' fetches it")
    programs = [path for suite in ("iommu", "vfio") for path in (trees[-1] / suite).glob("*.c")]
    cases = {f"{fixture}.{name}" for path in programs for fixture, name in _CASE.findall(path.read_text())}
    assert len(cases) > 90
    tests = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def test_(\w+)", path.read_text(), re.M)
    }
    assert {case for case in cases if case.partition(".")[2].lower() not in tests} == ELSEWHERE.keys()
