# SPDX-License-Identifier: MIT
"""The parts of a scenario's context that change this process, or use another one."""

import os
import resource

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.uapi.syscalls import has_ipc_lock
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.driver import MockDriver


@pytest.fixture
def context() -> ScenarioContext:
    return ScenarioContext(MockDriver(), None)


def test_a_limit_of_locked_memory_needs_no_other_user(context: ScenarioContext) -> None:
    before = has_ipc_lock(), resource.getrlimit(resource.RLIMIT_MEMLOCK), os.geteuid()
    with context.locked_memory(2):
        assert not has_ipc_lock()
        assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == 2 * PAGE_BYTES
        assert os.geteuid() == before[2]
    assert (has_ipc_lock(), resource.getrlimit(resource.RLIMIT_MEMLOCK), os.geteuid()) == before


def test_the_error_of_another_process_is_named(context: ScenarioContext) -> None:
    def fail() -> None:
        raise ToolError("no such thing")

    with pytest.raises(ToolError, match="ToolError: no such thing"):
        context.in_another_process(fail)
    with pytest.raises(ToolError, match="wait status 0x9"):
        context.in_another_process(lambda: os.kill(os.getpid(), 9))


def test_a_task_of_another_process_changes_nothing_here(context: ScenarioContext) -> None:
    done: list[int] = []
    context.in_another_process(lambda: done.append(1))
    assert not done
