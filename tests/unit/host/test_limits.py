# SPDX-License-Identifier: MIT
"""The limits of pinned memory and of open files, as the kernel applies them to this process."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.host.environment import environment, pinned_bytes
from iommufd_py.host.features import kernel_features
from iommufd_py.host.iommus import iommus
from iommufd_py.host.kmsg import KernelLog
from iommufd_py.host.limits import lift_memlock, limits
from iommufd_py.host.page_tables import page_tables
from iommufd_py.host.private import _texts
from iommufd_py.host.tracefs import find_tracefs
from tests.namespaces import python_in_namespaces
from tests.open_files import TOO_MANY, no_descriptor_left

_LOW = 1 << 16


def as_root_of_another_namespace(function: str) -> None:
    """Call a function of this file in a process that is root in a user namespace of its own."""
    done = python_in_namespaces(f"import runpy; runpy.run_path({__file__!r})[{function!r}]()")
    assert done.returncode == 0, done.stderr


def the_limit_is_not_ignored() -> None:
    assert not limits().memlock_ignored


def the_limit_stays() -> None:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (_LOW, _LOW))
    assert not lift_memlock()
    assert limits().memlock_bytes == _LOW


def test_root_of_another_user_namespace_has_the_limit() -> None:
    as_root_of_another_namespace("the_limit_is_not_ignored")


def test_root_of_another_user_namespace_cannot_lift_the_limit() -> None:
    as_root_of_another_namespace("the_limit_stays")


@pytest.mark.parametrize(
    "call",
    [environment, find_tracefs, iommus, kernel_features, KernelLog, limits, page_tables, pinned_bytes],
    ids=lambda call: call.__name__,
)
def test_a_fact_that_cannot_be_read_for_lack_of_a_descriptor_is_no_missing_fact(call: Callable[[], object]) -> None:
    with no_descriptor_left(), pytest.raises(ToolError, match=TOO_MANY):
        call()


def test_a_private_text_that_cannot_be_read_for_lack_of_a_descriptor_is_an_error() -> None:
    """A report would keep it."""
    with no_descriptor_left(), pytest.raises(ToolError, match=f"/etc/passwd cannot be opened: {TOO_MANY}"):
        list(_texts([Path("/etc/passwd")]))
