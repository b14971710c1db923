# SPDX-License-Identifier: MIT
"""The pytest plugin on a machine without iommufd: skips, messages, and KTAP."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.base.environment import Platform
from iommufd_py.host.kmsg import record_text
from iommufd_py.lab.tap import parse_tap
from iommufd_py.testing import devices, requirements
from tests.waiting import DEFAULT_SIGNALS, NO_PLUGINS, patience, wait_until

pytest_plugins = "pytester"


@pytest.fixture(autouse=True)
def plain_machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without iommufd, outside the lab, without a spare device."""
    # Some of these plugins take long to load, and one changes the order.
    monkeypatch.setenv("PYTEST_ADDOPTS", NO_PLUGINS)
    monkeypatch.setattr(requirements, "DEV_IOMMU", tmp_path / "iommu")
    monkeypatch.setattr(requirements, "IN_LAB", False)
    monkeypatch.setattr(requirements, "FORCED", False)
    for name in ("IOMMUFD_BDF", "IOMMUFD_BDFS"):
        monkeypatch.delenv(name, raising=False)


def skipped(pytester: pytest.Pytester, test: str, *arguments: str) -> str:
    """Run *test*, which must be skipped, and return the reason."""
    pytester.makepyfile(f"import pytest\n{test}")
    result = pytester.runpytest_inprocess("-rs", *arguments)
    result.assert_outcomes(skipped=1)
    return result.stdout.str()


@pytest.mark.parametrize(
    ("fixture", "reason"),
    [
        ("iommufd", "needs /dev/iommu*iommufd lab run -- pytest"),
        ("ioas", "needs /dev/iommu"),
        ("mock_device", "needs /dev/iommu"),
        ("bdf", "needs a spare device: set IOMMUFD_BDF=*or a pool IOMMUFD_BDFS*iommufd lab run"),
    ],
)
def test_a_fixture_skips_with_the_reason_and_the_remedy(pytester: pytest.Pytester, fixture: str, reason: str) -> None:
    pytester.makepyfile(f"def test_it({fixture}): pass")
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"*{reason}*"])


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("mock", "needs /dev/iommu"),
        ("vtd(own_group=True)", "needs /dev/iommu"),
        ("disruptive", "disturbs other programs on this machine; IOMMUFD_FORCE=1 runs it"),
        ("hw", "needs bare metal, and this is tcg; IOMMUFD_FORCE=1 runs it"),
    ],
)
def test_a_marker_skips_with_the_reason_and_how_to_force_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, marker: str, reason: str
) -> None:
    monkeypatch.setenv("IOMMUFD_LAB_ACCEL", Platform.TCG)
    test = f"@pytest.mark.{marker}\ndef test_it(): raise AssertionError"
    assert reason in skipped(pytester, test, "-o", "required_plugins=iommufd-py")


def test_in_the_lab_a_missing_set_up_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "IN_LAB", True)
    pytester.makepyfile("def test_it(iommufd): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*in the lab: needs /dev/iommu*"])


def test_forced_runs_a_test_that_would_be_skipped(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "FORCED", True)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.hw
        @pytest.mark.disruptive
        def test_it(): pass
        """
    )
    pytester.runpytest_inprocess("-o", "required_plugins=iommufd-py").assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_device_that_does_not_fit_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOMMUFD_BDFS", "3b:00.0")
    device = devices.Candidate("0000:3b:00.0", "1234:11e8", 0xF00FCA, ("0000:3b:00.0",))
    monkeypatch.setattr(devices, "candidate", {device.bdf: device}.__getitem__)
    test = "@pytest.mark.vtd(snoop_control=False)\ndef test_it(bdf): pass"
    monkeypatch.setattr(requirements, "need_iommufd", lambda: None)
    assert "no device given fits (0000:3b:00.0: snoop_control is True)" in skipped(pytester, test)


@pytest.mark.slow
def test_a_run_that_does_not_use_it_is_as_before(pytester: pytest.Pytester) -> None:
    """Markers of the same names keep the meaning of another project, and the plugin imports nothing more."""
    pytester.makepyfile(
        """
        import sys

        import pytest

        @pytest.mark.mock
        @pytest.mark.hw
        def test_it(request):
            assert "leak_check" not in request.fixturenames
            loaded = {name for name in sys.modules if name.startswith("iommufd_py")}
            assert loaded == {"iommufd_py", "iommufd_py.testing", "iommufd_py.testing.plugin"}
        """
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=pytester.path, capture_output=True, text=True, timeout=patience(120), check=False
    )
    assert done.returncode == 0, done.stdout


OUTCOMES = """
    import pytest

    def test_passes(): pass

    def test_fails():
        assert 1 == 2, "a reason"

    @pytest.mark.skip(reason="not  here")
    def test_skipped(): pass

    @pytest.mark.xfail(reason="known")
    def test_expected(): assert False

    @pytest.fixture
    def leaking():
        yield
        pytest.fail("left behind", pytrace=False)

    def test_leaks(leaking): pass

    @pytest.mark.parametrize("word", ["a b", "#c"])
    def test_words(word): pass
"""


def test_ktap_is_what_our_parser_reads(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_some=OUTCOMES)
    result = pytester.runpytest_inprocess("--ktap", "out.ktap")
    result.assert_outcomes(passed=4, failed=1, skipped=1, xfailed=1, errors=1)
    lines = (pytester.path / "out.ktap").read_text().splitlines()
    assert lines[:2] == ["KTAP version 1", "1..7"]
    assert "# E       AssertionError: a reason" in lines
    assert "# left behind" in lines
    assert "ok 4 test_some.py::test_expected # XFAIL known" in lines
    assert lines[-1] == "# Totals: pass:3 fail:2 xfail:1 skip:1"
    report = parse_tap(lines)
    assert report.lost == 0
    assert report.failed == ("test_some.py::test_fails", "test_some.py::test_leaks")
    assert report.skipped == (("test_some.py::test_skipped", "not here"),)
    assert report.passed == (
        "test_some.py::test_passes",
        "test_some.py::test_expected",
        "test_some.py::test_words[a_b]",
        "test_some.py::test_words[_c]",
    )


# As pytest-rerunfailures: each run of a test has its reports, and a failure that does not count is "rerun".
RERUNS = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        for last in (False, False, True):
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            again = not last and any(one.failed for one in reports)
            for report in reports:
                if again and report.failed:
                    report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            if not again:
                return True
"""
# As pytest-retry: the failures of a phase that ran again are further reports of the same test.
RETRIES = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            outcomes = ("retried", "retried", "passed") if report.failed else (report.outcome,)
            for report.outcome in outcomes:
                item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
"""
FLAKY = """
    import pytest

    RUNS = []

    def fail_before(number):
        RUNS.append(number)
        assert len(RUNS) >= number, f"run {len(RUNS)}"

    @pytest.fixture
    def early():
        fail_before(2)

    @pytest.fixture
    def late():
        yield
        fail_before(4)

    def test_setup(early): pass

    def test_teardown(late): pass

    def test_call(): fail_before(7)

    def test_always(): assert False, "never"

    def test_once(): pass
"""


def test_ktap_has_one_line_for_a_test_that_ran_several_times(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(test_some=FLAKY)
    pytester.runpytest_inprocess("--ktap", "out.ktap", "-p", "no:randomly")
    lines = (pytester.path / "out.ktap").read_text().splitlines()
    assert [line for line in lines if not line.startswith("# ")] == [
        "KTAP version 1",
        "1..5",
        "ok 1 test_some.py::test_setup",
        "ok 2 test_some.py::test_teardown",
        "ok 3 test_some.py::test_call",
        "not ok 4 test_some.py::test_always",
        "ok 5 test_some.py::test_once",
    ]
    assert lines[-1] == "# Totals: pass:4 fail:1 xfail:0 skip:0"
    assert [line for line in lines if line.startswith("# E   A")] == ["# E   AssertionError: never"]


def test_ktap_has_one_line_for_a_test_with_a_phase_that_ran_several_times(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RETRIES)
    pytester.makepyfile(test_some="def test_it(): assert False")
    pytester.runpytest_inprocess("--ktap", "out.ktap").assert_outcomes(passed=1)
    assert (pytester.path / "out.ktap").read_text().splitlines()[2:] == [
        "ok 1 test_some.py::test_it",
        "# Totals: pass:1 fail:0 xfail:0 skip:0",
    ]


def test_ktap_on_the_terminal_has_lines_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_some=OUTCOMES)
    result = pytester.runpytest_inprocess("--ktap", "-")
    assert parse_tap(result.stdout.lines).lost == 0
    assert len(parse_tap(result.stdout.lines).passed) == 4


def test_ktap_of_a_file_that_cannot_be_read(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_good="def test_it(): pass", test_bad="import no_such_module")
    pytester.runpytest_inprocess("--ktap", "out.ktap").assert_outcomes(errors=1)
    report = parse_tap((pytester.path / "out.ktap").read_text().splitlines())
    assert report.failed == ("test_bad.py",)
    assert report.lost == 1


def test_ktap_of_a_run_that_stops_has_lost_cases(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_some=OUTCOMES)
    pytester.runpytest_inprocess("-x", "--ktap", "out.ktap")
    assert parse_tap((pytester.path / "out.ktap").read_text().splitlines()).lost == 5


def test_ktap_of_tests_that_run_at_the_same_time_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_some=OUTCOMES)
    result = pytester.runpytest_inprocess("-n", "2", "--ktap", "out.ktap")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*leave out -n*"])


def test_record_of_the_kernel_log() -> None:
    record = b"4,1234,5678901,-,caller=T1;WARNING: a.c:1 tab\\x09here\n SUBSYSTEM=pci\n"
    assert record_text(record) == "[    5.678901] [    T1] WARNING: a.c:1 tab\there"


@pytest.mark.parametrize("name", ["disruptive", "iommufd_disruptive"])
def test_marker_has_a_name_of_our_own(pytester: pytest.Pytester, name: str) -> None:
    test = f"@pytest.mark.{name}\ndef test_it(): raise AssertionError"
    assert "disturbs other programs" in skipped(pytester, test, "-o", "required_plugins=iommufd-py", "--strict-markers")


def test_ktap_that_cannot_be_written_is_wrong_usage(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("--iommufd-ktap", str(pytester.path))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--ktap * cannot be written: Is a directory*"])


def test_ktap_on_a_full_disk_ends_the_run_in_one_sentence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a():\n    pass\n")
    result = pytester.runpytest_subprocess("--ktap", "/dev/full")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*Exit: --ktap /dev/full cannot be written: No space left on device*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str()


def test_ktap_without_a_name_is_wrong_usage(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--ktap", "")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ("expect_kernel_log()", "@expect_kernel_log() needs one regular expression: "),
        ("expect_kernel_log('(')", "@expect_kernel_log('(') needs one regular expression: missing ), "),
        ("iommufd_expect_kernel_log('a', 'b')", "@iommufd_expect_kernel_log('a', 'b') needs one regular expression: "),
        ("vtd(nosuch=True)", "@vtd has no nosuch: name ids, own_group, snoop_control"),
        ("iommufd_vtd('8086:1572')", "@iommufd_vtd has no '8086:1572': name ids, own_group, snoop_control"),
        ("expect_kernel_log(5)", "@expect_kernel_log(5) needs one regular expression: "),
    ],
)
def test_a_wrong_marker_is_named(pytester: pytest.Pytester, marker: str, sentence: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.{marker}\ndef test_a(leak_check):\n    pass\n")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    assert f"\n{sentence}" in result.stdout.str()


_GIVES_BACK = """
import os, signal, time
from pathlib import Path

def test_it(device_pool):
    device_pool._bound.callback(Path("given-back").touch)
    # The next signal arrives while the first device is given back.
    device_pool._bound.callback(os.kill, os.getpid(), signal.{0})
    Path("taken").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_all_devices_are_given_back_after_two_signals(pytester: pytest.Pytester, number: signal.Signals) -> None:
    """A closed terminal ended the run at once, and a second SIGTERM ended it between two devices."""
    pytester.makepyfile(_GIVES_BACK.format(number.name))
    command = [*DEFAULT_SIGNALS, sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    with subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        wait_until(lambda: run.poll() is not None or (pytester.path / "taken").exists())
        run.send_signal(number)
        output, _ = run.communicate(timeout=patience(60))
    assert (pytester.path / "given-back").exists(), output.decode()


@pytest.mark.parametrize("name", ["IOMMUFD_BDF", "IOMMUFD_BDFS"])
def test_a_wrong_pool_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "00:01.0 x")
    pytester.makepyfile("def test_a(device_pool):\n    pass\n")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    assert f"\n{name}: 'x' is not a PCI address: " in result.stdout.str()


@pytest.mark.parametrize(("value", "in_lab"), [(None, False), ("", False), ("vtd", True)])
def test_an_empty_variable_makes_no_guest_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, value: str | None, in_lab: bool
) -> None:
    """A container runtime can pass an unset variable as an empty one. Disruptive tests ran on such a machine."""
    monkeypatch.delenv("IOMMUFD_LAB_MACHINE", raising=False)
    if value is not None:
        monkeypatch.setenv("IOMMUFD_LAB_MACHINE", value)
    code = "from iommufd_py.testing.requirements import IN_LAB; print(IN_LAB)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{in_lab}\n"
