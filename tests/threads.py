# SPDX-License-Identifier: MIT
"""A process whose first thread has ended while another one goes on."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import process_fields
from tests.waiting import wait_until

_PROGRAM = """
import ctypes, os, sys, threading, time
descriptor = os.open(sys.argv[1], os.O_RDONLY)
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@contextlib.contextmanager
def process_without_first_thread(file: Path = Path(os.devnull)) -> Iterator[int]:
    """Provide the PID of such a process, which has *file* open."""
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, str(file)]) as process:
        try:
            wait_until(lambda: process_fields(process.pid)[:1] == ["Z"])
            yield process.pid
        finally:
            process.kill()
