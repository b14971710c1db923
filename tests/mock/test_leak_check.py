# SPDX-License-Identifier: MIT
"""The leak check around kernel tests: each test here runs a misbehaving test in a separate process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iommufd_py import Iommufd
from iommufd_py.host.kmsg import KernelLog
from iommufd_py.lab.tap import TapReport, parse_tap
from iommufd_py.testing.requirements import need_iommufd, need_mock_driver
from tests.waiting import patience

PRINTK = Path("/proc/sys/kernel/printk")
FAULT = "DMAR: [DMA Write NO_PASID] Request device [0000:00:1f.0] fault addr 0x1000 [fault reason 0x05] provoked"

MISBEHAVING = f"""
import os

import pytest

from iommufd_py import Backing, DmaBuffer, MapFlags
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import iommufd_test

pytestmark = pytest.mark.mock
FOREIGN = os.open("/dev/null", os.O_RDONLY)

def say(text):
    with open("/dev/kmsg", "w") as log:
        log.write("<7>" + text + "\\n")

def test_good(mock_device, ioas, dma_buffer):
    mock_device.attach(ioas)
    ioas.map(dma_buffer(1 << 16))

def test_marked_only():
    os.dup(0)

def test_descriptor(iommufd):
    os.dup(iommufd.fileno())

def test_memfd():
    DmaBuffer(4096, Backing.MEMFD)._open = False  # dropped without a close, and without a warning

def test_foreign_descriptor(iommufd):
    os.close(FOREIGN)

def test_pin(iommufd, dma_buffer):
    left_open = os.open("/dev/iommu", os.O_RDWR)
    ioas_id, buffer = uapi.ioas_alloc(left_open), dma_buffer(1 << 16)
    iommufd_test.issue_test_op(left_open, "MOCK_DOMAIN", ioas_id)
    uapi.ioas_map(left_open, ioas_id, buffer.user_va, buffer.length, 0, MapFlags.READ_WRITE)

def test_warning(iommufd):
    say("WARNING: CPU: 0 PID: 1 at provoked.c:1 provoked+0x0/0x10")

def test_fault(iommufd):
    say("{FAULT}")

@pytest.mark.expect_kernel_log("DMAR: .* fault addr 0x1000")
def test_expected_fault():
    say("{FAULT}")

@pytest.mark.expect_kernel_log("DMAR: .* fault addr 0x2000")
def test_other_fault():
    say("{FAULT}")

def test_failing_is_not_asked_for_leaks(iommufd):
    kept = os.open("/dev/null", os.O_RDONLY)
    raise AssertionError("this is its failure")

def test_after_all(iommufd, dma_buffer):
    dma_buffer(4096)
"""


@contextmanager
def silent_console() -> Iterator[None]:
    """Keep kernel messages from the console: the lab reads it, and would take these provoked reports for real ones."""
    before = PRINTK.read_text()
    PRINTK.write_text("1")
    try:
        yield
    finally:
        PRINTK.write_text(before)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[TapReport, dict[str, str]]:
    """The outcomes of the misbehaving tests, with the messages of the failed ones."""
    need_iommufd()
    with Iommufd() as iommufd:
        need_mock_driver(iommufd)
    directory = tmp_path_factory.mktemp("misbehaving")
    (directory / "test_it.py").write_text(MISBEHAVING)
    (directory / "pytest.ini").write_text("[pytest]\nrequired_plugins = iommufd-py\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "--ktap", "out.ktap"]
    with silent_console():
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=patience(120), check=False
        )
    assert done.returncode == 1, done.stdout
    lines = (directory / "out.ktap").read_text().splitlines()
    said: dict[str, str] = {}
    pending: list[str] = []
    for line in lines:
        if line.startswith("# "):
            pending.append(line.removeprefix("# "))
            continue
        if line.startswith("not ok"):
            said[line.rpartition("::")[2]] = "\n".join(pending)
        pending = []
    return parse_tap(lines), said


def test_only_who_misbehaves_fails(outcome: tuple[TapReport, dict[str, str]]) -> None:
    report, _ = outcome
    assert [name.rpartition("::")[2] for name in report.passed] == [
        "test_good",
        "test_expected_fault",
        "test_after_all",
    ]
    assert len(report.failed) == 9
    assert report.lost == len(report.skipped) == 0


@pytest.mark.parametrize(
    ("test", "complaints"),
    [
        ("test_marked_only", ["was left open"]),
        ("test_descriptor", ["was left open: /dev/iommu"]),
        ("test_memfd", ["was left open: /memfd:iommufd-py"]),
        ("test_foreign_descriptor", ["was open before the test, and the test closed it: /dev/null"]),
        (
            "test_pin",
            ["pages of DmaBuffer(64K, 4k) at 0x", "are still pinned", "+65536 bytes stay pinned", "/dev/iommu"],
        ),
        ("test_warning", ["the kernel reported a WARNING during the test:", "provoked.c:1 provoked+0x0/0x10"]),
        ("test_fault", ["the kernel reported a DMA fault during the test:", FAULT]),
        ("test_other_fault", [FAULT, "did not report 'DMAR: .* fault addr 0x2000' as expected"]),
        ("test_failing_is_not_asked_for_leaks", ["this is its failure"]),
    ],
)
def test_a_complaint_says_what_is_wrong(
    outcome: tuple[TapReport, dict[str, str]], test: str, complaints: list[str]
) -> None:
    for complaint in complaints:
        assert complaint in outcome[1][test]


# Messages of 900 characters. The lab's kernels keep 128 KiB to 1 MiB.
_MORE_THAN_THE_LOG = 5000


def test_the_log_gives_each_record_once_and_nothing_from_before(iommufd: Iommufd) -> None:
    Path("/dev/kmsg").write_text("<7>before\n")
    log = KernelLog()
    Path("/dev/kmsg").write_text("<7>first\n")
    assert log.text().endswith("] first")
    Path("/dev/kmsg").write_text("<7>second\n")
    assert log.text().endswith("] second")
    assert log.text() == ""
    log.close()


@pytest.mark.disruptive
def test_messages_that_the_kernel_overwrites_are_counted(iommufd: Iommufd) -> None:
    """The loop writes more than the kernel keeps."""
    log = KernelLog()
    Path("/dev/kmsg").write_text("<7>first\n")
    assert log.text().endswith("] first")
    with open("/dev/kmsg", "w", buffering=1) as kmsg:
        for number in range(_MORE_THAN_THE_LOG):
            kmsg.write(f"<7>{number} {'x' * 900}\n")
    kept = log.text().splitlines()
    assert any(f"] {_MORE_THAN_THE_LOG - 1} xxx" in line for line in kept[-5:])
    assert log.lost >= _MORE_THAN_THE_LOG - len(kept) > 0
    log.close()
