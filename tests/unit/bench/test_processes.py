# SPDX-License-Identifier: MIT
"""The errors of a measuring process reach the process that started it."""

import errno
from collections.abc import Callable

import pytest

from iommufd_py import IommufdError
from iommufd_py.bench.processes import PartOfRow, Plan, _from_forks
from iommufd_py.results.model import Point, Row, Workload


def fail(plan: Plan, point: Point, process: int, tell: Callable[[PartOfRow], None]) -> Row:
    raise IommufdError(errno.ENOMEM, "IOMMU_IOAS_MAP", {"length": point.size_bytes})


def test_the_error_of_an_ioctl_keeps_its_errno_and_its_arguments() -> None:
    with pytest.raises(IommufdError, match="the mapped pages cannot be pinned") as caught:
        list(_from_forks(Plan("mock", (Point(Workload.MAP, 4096),)), fail))
    assert (caught.value.errno, caught.value.ioctl, caught.value.arguments) == (
        errno.ENOMEM,
        "IOMMU_IOAS_MAP",
        {"length": 4096},
    )
