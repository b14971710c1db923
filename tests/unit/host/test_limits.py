# SPDX-License-Identifier: MIT
"""The limit of pinned memory, as the kernel applies it to this process."""

import resource

from iommufd_py.host.limits import lift_memlock, limits
from tests.namespaces import python_in_namespaces

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
