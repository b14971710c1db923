# SPDX-License-Identifier: MIT
"""Finding the kernel threads that may work for this process."""

import os
from pathlib import Path

from iommufd_py.validate.probes import _kernel_threads


def test_kernel_threads() -> None:
    """The kernel threads are kthreadd and its children. A PID namespace without kthreadd has no kernel threads."""
    found = _kernel_threads()
    comm = Path("/proc/2/comm")
    assert (2 in found) == (comm.exists() and comm.read_text() == "kthreadd\n")
    assert os.getpid() not in found and 1 not in found
    assert bool(found) == (2 in found)
    for pid in found:
        # a kernel thread has no program
        command = Path(f"/proc/{pid}/cmdline")
        assert not command.exists() or command.read_bytes() == b""
