# SPDX-License-Identifier: MIT
"""How C executes a sequence of calls, on a file that refuses the ioctls."""

import errno
import os
from pathlib import Path

import pytest

from iommufd_py.uapi.fail_nth import Program
from iommufd_py.uapi.fault_injection import FAIL_NTH

NULL = Path("/dev/null")


@pytest.fixture(autouse=True)
def nothing_left_open():
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def test_a_program_runs_to_its_end_and_closes_its_descriptors() -> None:
    program = Program()
    program.open(NULL)
    outcome = program.run()
    assert (outcome.failed, outcome.errno, outcome.injected) == (None, 0, False)


@pytest.mark.parametrize("failing", [False, True])
def test_the_object_of_a_call_is_undone_once(failing: bool) -> None:
    made = os.open(NULL, os.O_RDONLY)
    program = Program()
    fd = program.open(NULL)
    call = program.ioctl(fd, "IOMMU_IOAS_ALLOC", "iommu_ioas_alloc", may_fail=True, out_ioas_id=made)
    if failing:
        program.ioctl(fd, "IOMMU_DESTROY", "iommu_destroy")
    program.undo(call, program.close(call["out_ioas_id"]))
    assert program.run().failed == ("IOMMU_DESTROY" if failing else None)


def test_a_descriptor_that_the_program_closes_is_closed_once() -> None:
    program = Program()
    fd = program.open(NULL)
    program.close(fd)
    assert program.run().failed is None
    assert fd.pointer[0] == -1


def test_ends_at_the_call_that_fails() -> None:
    program = Program()
    fd = program.open(NULL)
    program.ioctl(fd, "IOMMU_DESTROY", "iommu_destroy", id=1)
    program.ioctl(fd, "IOMMU_IOAS_ALLOC", "iommu_ioas_alloc")
    outcome = program.run()
    assert (outcome.failed, outcome.errno, outcome.injected) == ("IOMMU_DESTROY", errno.ENOTTY, False)
    assert str(outcome) == "IOMMU_DESTROY: ENOTTY, no allocation was made to fail"


def test_goes_on_behind_a_call_that_may_fail() -> None:
    program = Program()
    fd = program.open(NULL)
    program.ioctl(fd, "IOMMU_DESTROY", "iommu_destroy", may_fail=True, id=1)
    program.ioctl(fd, "IOMMU_IOAS_ALLOC", "iommu_ioas_alloc")
    assert program.run().failed == "IOMMU_IOAS_ALLOC"


def test_a_file_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    program = Program()
    program.open(tmp_path / "absent")
    assert program.run().errno == errno.ENOENT


def test_a_field_is_copied_when_its_call_comes() -> None:
    program = Program()
    fd = program.open(NULL)
    first = program.ioctl(fd, "IOMMU_IOAS_ALLOC", "iommu_ioas_alloc", may_fail=True, out_ioas_id=42)
    second = program.test(fd, "CREATE_ACCESS", first["out_ioas_id"], "create_access", flags=1)
    assert second.argument.id == 0
    assert program.run().failed == "IOMMU_TEST_CMD CREATE_ACCESS"
    assert (second.argument.id, second.argument.create_access.flags) == (42, 1)


def test_every_run_starts_from_the_same() -> None:
    program = Program()
    fd = program.open(NULL)
    call = program.ioctl(fd, "IOMMU_IOAS_MAP", "iommu_ioas_map", length=4096)
    program.run()
    call.argument.length = 1
    program.run()
    assert call.argument.length == 4096


@pytest.mark.skipif(not FAIL_NTH.exists(), reason="needs a kernel with CONFIG_FAULT_INJECTION, as the lab's")
def test_nothing_to_fail_behind_the_last_call() -> None:
    program = Program()
    program.open(NULL)
    program.inject_from_here()
    assert not program.run(1).injected
