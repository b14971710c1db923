# SPDX-License-Identifier: MIT
"""A job of a machine, run by the shell of this machine in place of ssh."""

import subprocess
from pathlib import Path

import pytest

from iommufd_py.fleet import plan
from iommufd_py.fleet.machine import LabgridMachine, MachineJob, SetUpError
from iommufd_py.fleet.worker import _FILES
from tests.waiting import wait_until


class ThisMachine(LabgridMachine):
    """This machine."""

    def __init__(self) -> None:
        pass

    def run(self, script: str, timeout: float = 30) -> tuple[int, str, str]:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=timeout)
        return done.returncode, done.stdout, done.stderr


def test_a_job_gives_its_status_and_writes_no_file_that_a_plan_may_give(tmp_path: Path) -> None:
    job = MachineJob(ThisMachine(), str(tmp_path))
    job.start("sleep 0.2; (exit 3)")
    wait_until(lambda: job.status() is not None)
    assert job.status() == 3
    assert {one.name for one in tmp_path.iterdir()} | set(_FILES) <= plan._OWN_FILES


def test_a_disk_that_is_full_at_the_end_of_a_step_is_named(tmp_path: Path) -> None:
    """The step ends at once, not at its deadline."""
    # This is what `echo $? >status.new; mv status.new status` leaves on a full disk.
    (tmp_path / "status").touch()
    (tmp_path / "status.new").symlink_to("/dev/full")
    with pytest.raises(SetUpError, match=r"exit status of the step cannot be written: .*No space left on device"):
        MachineJob(ThisMachine(), str(tmp_path)).status()
    (tmp_path / "status.new").unlink()
    with pytest.raises(SetUpError, match="could not be written when the step ended"):
        MachineJob(ThisMachine(), str(tmp_path)).status()
