# SPDX-License-Identifier: MIT
"""A run on four machines with kernels of the lab: one is stock, one is patched, one panics, one hangs."""

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.fleet.guests import freeze, lab_of_guests, report_of
from tests.fleet.lab import Lab
from tests.waiting import patience, wait_until

STEP = """
import ctypes, os, pathlib, time

HERE = pathlib.Path(os.environ["HOST_DIRECTORY"])


def panic():
    # Let the first process continue at an unmapped address. The kernel panics when that process dies.
    libc = ctypes.CDLL(None)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    assert libc.ptrace(16, 1, None, None) == 0  # PTRACE_ATTACH
    os.waitpid(1, 0x40000000)  # __WALL
    registers = (ctypes.c_ulong * 27)()
    assert libc.ptrace(12, 1, None, registers) == 0  # PTRACE_GETREGS
    registers[16] = 0  # rip
    assert libc.ptrace(13, 1, None, registers) == 0  # PTRACE_SETREGS
    libc.ptrace(17, 1, None, None)  # PTRACE_DETACH
    time.sleep(1000)


def test_of_the_machine():
    if HERE.name == "panic0":
        panic()
    if HERE.name == "hang0":
        (HERE / "begun").touch()
        time.sleep(1000)
"""
PLAN = """
name = "four"
lost_after = "5s"
[[runners]]
filter = { kind = "guest" }
count = 4
[[steps]]
run = "validate"
options = ["--counts-suffice", "--only", "map-[a-c]*"]
[[steps]]
run = "pytest"
files = ["test_step.py"]
options = ["-q", "-p", "no:cacheprovider", "test_step.py"]
"""
KERNELS = {"stock0": "stock", "patched0": "patched", "panic0": "patched", "hang0": "patched"}


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    places = {name: {"kind": "guest", "kernel": kernel} for name, kernel in KERNELS.items()}
    with lab_of_guests(tmp_path, monkeypatch, places) as found:
        yield found


def test_the_report_is_right(guests: Lab, tmp_path: Path) -> None:
    (tmp_path / "test_step.py").write_text(STEP)
    (tmp_path / "plan.toml").write_text(PLAN)
    output = tmp_path / "out"
    process = guests.fleet(tmp_path / "plan.toml", output)
    wait_until(lambda: (guests.hosts["hang0"].directory / "begun").exists())
    freeze(guests.hosts["hang0"])
    told = process.communicate(timeout=patience(400))[1]
    assert process.returncode == 1, told
    assert guests.holders() == {}, "everything was given back"

    shown = report_of(output, "--json")
    assert shown.returncode == 1, shown.stderr
    document = json.loads(shown.stdout)
    assert document["lost"] == ["hang0", "panic0"]
    runners = {one["name"]: one for one in document["runners"]}
    checks = {name: {one["name"]: one for one in runner["checks"]} for name, runner in runners.items()}
    detail = checks["panic0"]["machine"]["detail"]
    assert detail.startswith("Kernel panic - not syncing: Attempted to kill init!"), told
    assert checks["hang0"]["machine"]["detail"] == "no answer for 5 s"
    # The patched kernel flushes the right number of pages. A native guest cannot observe which pages.
    for name in ("patched0", "panic0", "hang0"):
        assert checks[name]["rule 1"]["outcome"] == "counts agree"
    assert checks["stock0"]["rule 1"]["outcome"] == "not observed"
    assert {name: found["pytest"]["outcome"] for name, found in checks.items()} == {
        "stock0": "passed",
        "patched0": "passed",
        "panic0": "lost",
        "hang0": "lost",
    }
    lines = {one["name"]: one for one in document["lines"]}
    assert (lines["rule 1"]["outcome"], lines["rule 1"]["runners"]) == ("not observed", ["stock0"])
    assert (lines["pytest"]["outcome"], lines["pytest"]["runners"]) == ("lost", ["hang0", "panic0"])

    # Even with the losses accepted, the stock kernel's rules remain not observed.
    assert report_of(output, "--allow-lost", "2").returncode == 4
    assert report_of(output, "--allow-lost", "1").returncode == 1
    suites = ElementTree.fromstring(report_of(output, "--format", "junit").stdout).iter("testsuite")
    assert {one.get("name"): one.get("errors") for one in suites} == {
        "hang0": "2",
        "panic0": "2",
        "patched0": "0",
        "stock0": "0",
    }
    assert '"status": "MISS"' in report_of(output, "--format", "kcidb").stdout
