# SPDX-License-Identifier: MIT
"""The agent in a warm guest: run each job of the spool, one at a time. A program of its own, standard library only."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Often enough that nobody waits, and seldom enough that an idle guest takes no noticeable part of a CPU.
_POLL_SECONDS = 0.05
_KILLED = 128 + signal.SIGKILL


def serve(spool: Path) -> None:
    """Run the jobs of *spool* until the guest ends."""
    spool.joinpath("ready").touch()
    while True:
        for job in sorted(spool.glob("*.job")):
            if not job.with_suffix(".status").exists():
                run(job)
        time.sleep(_POLL_SECONDS)


def run(job: Path) -> None:
    """Run one job to its end, or until the host cancels it, and leave its exit status."""
    cancelled = job.with_suffix(".cancel")
    with job.with_suffix(".out").open("wb") as out, job.with_suffix(".err").open("wb") as err:
        child = subprocess.Popen(
            ["sh", str(job)], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        while child.poll() is None and not cancelled.exists():
            time.sleep(_POLL_SECONDS)
        status = child.returncode
        # Whatever the job left running would disturb the next one.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    unfinished = job.with_suffix(".unfinished")
    unfinished.write_text(str(_KILLED if status is None else status % 256))
    unfinished.rename(job.with_suffix(".status"))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
