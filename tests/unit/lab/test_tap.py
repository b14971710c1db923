# SPDX-License-Identifier: MIT
"""The results of the kernel's selftests: TAP and KUnit, also of a program or a kernel that died."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.lab.tap import parse_kunit, parse_tap

OUTPUT = """\
TAP version 13
1..4
# Starting 4 tests from 2 test cases.
#  RUN           iommufd.simple_close ...
#            OK  iommufd.simple_close
ok 1 iommufd.simple_close
#  RUN           iommufd_viommu.no_viommu.hw_queue ...
#      SKIP      Skipping test for variant no_viommu
ok 2 iommufd_viommu.no_viommu.hw_queue # SKIP Skipping test for variant no_viommu
# iommufd.c:77:cmd_fail:Expected 0 (0) == ret (-1)
not ok 3 iommufd.cmd_fail
"""


def test_cases_by_their_outcome() -> None:
    report = parse_tap([*OUTPUT.splitlines(), "ok 4 iommufd.cmd_length"])
    assert report.planned == 4
    assert report.passed == ("iommufd.simple_close", "iommufd.cmd_length")
    assert report.failed == ("iommufd.cmd_fail",)
    assert report.skipped == (("iommufd_viommu.no_viommu.hw_queue", "Skipping test for variant no_viommu"),)
    assert report.lost == 0
    assert not report.remark
    assert not report.good


def test_a_program_that_dies_has_lost_cases() -> None:
    report = parse_tap([*OUTPUT.replace("not ok 3 iommufd.cmd_fail", "Killed").splitlines(), "", "# Totals: pass:1"])
    assert report.lost == 2
    assert report.remark == "Killed"
    assert not report.failed
    assert not report.good


@pytest.mark.parametrize("output", ["", "sh: iommufd: not found", "1..0"])
def test_nothing_is_not_good(output: str) -> None:
    report = parse_tap(["TAP version 13", *output.splitlines()])
    assert not report.good
    assert report.remark == ("" if output == "1..0" else output)


@given(st.lists(st.sampled_from(["ok {} a.b", "not ok {} a.c", "ok {} a.d # SKIP why", "# noise"])))
def test_every_case_is_counted_once(lines: list[str]) -> None:
    numbered = [line.format(index) for index, line in enumerate(lines, 1)]
    cases = sum(not line.startswith("#") for line in lines)
    report = parse_tap([f"1..{cases}", *numbered])
    assert len(report.passed) + len(report.failed) + len(report.skipped) == cases
    assert report.lost == 0
    assert report.good == (cases > 0 and "not ok {} a.c" not in lines)


# As a kernel logs it. Each parameter of a case has a report of its own, eight characters in.
KUNIT = """\
[    0.310000] KTAP version 1
[    0.310000] 1..2
[    0.310000]     KTAP version 1
[    0.310000]     # Subtest: amdv1_fmt_test
[    0.310000]     # module: iommu_amdv1
[    0.310000]     1..3
[    0.310000]         KTAP version 1
[    0.310000]         # Subtest: test_entries
[    0.310000]         ok 1 amdv1_cfg_0
[    0.310000]         not ok 2 amdv1_cfg_1
[    0.310000]     # test_entries: pass:1 fail:1 skip:0 total:2
[    0.310000]     not ok 1 test_entries
[    0.310000] clocksource: an unrelated line
[    0.310000]     ok 2 test_bitops # SKIP no such bit
[    0.310000]     ok 3 test_attr_from_entry
[    0.310000] # amdv1_fmt_test: pass:1 fail:1 skip:1 total:3
[    0.310000] not ok 1 amdv1_fmt_test
[    0.310000]     KTAP version 1
[    0.310000]     # Subtest: amdv1_iommu_test
[    0.310000]     1..1
[    0.310000]     ok 1 test_map_simple
[    0.310000] {end}
"""


def test_suites_of_kunit_in_a_kernel_log() -> None:
    reports = parse_kunit(KUNIT.format(end="ok 2 amdv1_iommu_test").splitlines())
    assert list(reports) == ["amdv1_fmt_test", "amdv1_iommu_test"]
    first, second = reports.values()
    assert first.failed == ("test_entries",)
    assert first.skipped == (("test_bitops", "no such bit"),)
    assert first.passed == ("test_attr_from_entry",)
    assert first.lost == 0
    assert second.passed == ("test_map_simple",)
    assert second.good


def test_a_suite_that_fails_outside_its_cases_is_not_good() -> None:
    report = parse_kunit(KUNIT.format(end="not ok 2 amdv1_iommu_test").splitlines())["amdv1_iommu_test"]
    assert report.failed == ("amdv1_iommu_test",)
    assert not report.good


def test_a_kernel_that_dies_in_a_suite_has_lost_cases() -> None:
    lines = KUNIT.splitlines()
    report = parse_kunit(lines[: lines.index("[    0.310000]     # Subtest: amdv1_iommu_test") + 2])["amdv1_iommu_test"]
    assert report.lost == 1
    assert not report.good
