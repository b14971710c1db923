# SPDX-License-Identifier: MIT
"""The agent in a warm guest: a program that runs the jobs of the spool, one at a time. Standard library only."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Short enough for a quick start of a job, long enough for an idle guest to use almost no CPU.
_POLL_SECONDS = 0.05
_KILLED = 128 + signal.SIGKILL
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def serve(spool: Path) -> None:
    """Run the jobs of *spool* until the guest ends."""
    _DROP_CACHES.write_text("4")  # From now on, no line in the kernel log tells of a drop.
    spool.joinpath("ready").touch()
    # The host removes the files of a job that has ended. A list from before, or from the guest's caches, still has it.
    begun: set[str] = set()
    while True:
        for job in sorted(spool.glob("*.job")):
            if job.name not in begun:
                begun.add(job.name)
                forget_host_files()
                run_job(job)
        time.sleep(_POLL_SECONDS)


def forget_host_files() -> None:
    """Make the next job read the host's files anew: a guest does not see a change of a file that it has read.

    9p with cache=loose and hostfs keep the pages of a file, so that programs start faster.
    """
    _DROP_CACHES.write_text("2")  # inodes and their pages


def run_job(job: Path) -> None:
    """Run one job to its end, or until the host cancels it, and write its exit status to the spool."""
    cancelled = job.with_suffix(".cancel")
    with job.with_suffix(".out").open("wb") as out, job.with_suffix(".err").open("wb") as err:
        child = subprocess.Popen(
            ["sh", str(job)], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        while child.poll() is None and not cancelled.exists():
            time.sleep(_POLL_SECONDS)
        status = child.returncode
        # Processes that the job left behind would disturb the next job.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    unfinished = job.with_suffix(".unfinished")
    unfinished.write_text(str(_KILLED if status is None else status % 256))
    unfinished.rename(job.with_suffix(".status"))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
