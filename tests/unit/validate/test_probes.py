# SPDX-License-Identifier: MIT
"""The kernel threads that may work for this process are found; a process in a container cannot find them."""

import os
from pathlib import Path

import pytest

from iommufd_py import SkipError
from iommufd_py.host.tracefs import require_host_pids
from iommufd_py.validate.probes import _kernel_threads
from tests.namespaces import python_in_namespaces


def in_the_initial_namespace() -> bool:
    try:
        require_host_pids()
    except SkipError:
        return False
    return True


@pytest.mark.skipif(not in_the_initial_namespace(), reason="needs the PIDs of the host")
def test_kernel_threads() -> None:
    """The kernel threads are kthreadd and its children."""
    found = _kernel_threads()
    assert 2 in found
    assert os.getpid() not in found and 1 not in found
    for pid in found:
        # a kernel thread has no program
        command = Path(f"/proc/{pid}/cmdline")
        assert not command.exists() or command.read_bytes() == b""


def test_a_container_cannot_trace_by_pids() -> None:
    """The marks of the steps have PIDs of the host there. Without them, nothing would be judged, and all rules kept."""
    code = "from iommufd_py.validate.probes import Probes; Probes(())"
    done = python_in_namespaces(code, "--pid", "--fork", "--mount-proc")
    assert "SkipError: the kernel traces by the PIDs of the host" in done.stderr
