# SPDX-License-Identifier: MIT
"""Ctrl-C at any moment ends the program, and the pinned memory is released."""

import signal
import subprocess
import sys

from iommufd_py import Backing, DmaBuffer, Iommufd, MockDevice
from iommufd_py.mock import check_refs
from tests.conftest import need_mock_driver
from tests.interrupting import interrupt_everywhere
from tests.waiting import DEFAULT_SIGNALS, patience

PAGE = 4096

# A benchmark that would take hours. A SIGINT is pending when its measuring process starts.
INTERRUPTED_BENCHMARK = """
import os, signal, sys
from iommufd_py.cli.main import main
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["iommufd", "bench", "run", "--device", "mock", "--values", "1000000"]
main()
"""


def test_nothing_stays_pinned(iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    with DmaBuffer(16 * PAGE, Backing.MEMFD) as buffer:

        def work() -> None:
            with Iommufd() as own, DmaBuffer(PAGE) as other:
                device = MockDevice(own)
                first, second = own.alloc_ioas(), own.alloc_ioas()
                device.attach(device.alloc_hwpt(first))
                first.map(buffer).close()
                mapping = first.map(buffer)
                first.map(other)
                device.attach(second)
                second.copy(mapping)
                device.detach()

        assert interrupt_everywhere(work, lambda: check_refs(iommufd, buffer.user_va, buffer.length, 0)) > 20


def test_the_measuring_process_ends_too(iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    command = [*DEFAULT_SIGNALS, sys.executable, "-c", INTERRUPTED_BENCHMARK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
