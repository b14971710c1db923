# SPDX-License-Identifier: MIT
"""The examples of the reference that the patched kernel runs natively."""

from pathlib import Path

import pytest

from iommufd_py import Iommufd
from iommufd_py.base.environment import Platform
from iommufd_py.host import environment
from tests import command_examples
from tests.conftest import need_ioctl

pytestmark = [
    pytest.mark.mock,
    pytest.mark.skipif(
        environment().platform != Platform.UML or environment().kernel_variant != "patched-um",
        reason="the examples show the patched kernel under User-Mode Linux; the job native-patched runs them",
    ),
]


@pytest.mark.parametrize("name", command_examples.examples(command_examples.NATIVE))
def test_example(name: str, tmp_path: Path) -> None:
    if name == "info":  # It shows the ioctls of the newest kernel.
        with Iommufd() as iommufd:
            need_ioctl(iommufd, "IOMMU_IOAS_NOIOMMU_GET_PA", "7.3")
    command_examples.check_example(name, tmp_path)
