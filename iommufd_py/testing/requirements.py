# SPDX-License-Identifier: MIT
"""Requirements of a test: it is skipped, or fails in the lab, on a machine that does not meet them."""

import os

import pytest

from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.environment import Platform
from iommufd_py.base.errors import SkipError
from iommufd_py.base.meanings import NO_MOCK_DEVICE
from iommufd_py.host import environment
from iommufd_py.mock import mock_makes
from iommufd_py.objects.iommufd import DEV_IOMMU, Iommufd
from iommufd_py.uapi.enums import MockDeviceFlags
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.modes import open_container

IN_LAB = bool(os.environ.get("IOMMUFD_LAB_MACHINE"))
"""Whether this machine is a guest of the lab. A guest meets all requirements and may run disruptive tests."""

FORCED = os.environ.get("IOMMUFD_FORCE", "") not in ("", "0")
"""Whether the user forbids skips for reasons of this machine."""


def need(condition: bool, reason: str) -> None:
    """Skip with *reason* unless *condition* holds. In the lab, or with IOMMUFD_FORCE=1, fail instead of skipping."""
    if condition:
        return
    if IN_LAB or FORCED:
        pytest.fail(f"{'in the lab' if IN_LAB else 'IOMMUFD_FORCE'}: {reason}", pytrace=False)
    pytest.skip(reason)


def need_iommufd() -> None:
    """Skip unless /dev/iommu can be opened."""
    need(DEV_IOMMU.exists(), "needs /dev/iommu (CONFIG_IOMMUFD): run it in the lab, 'iommufd lab run -- pytest ...'")
    need(os.access(DEV_IOMMU, os.R_OK | os.W_OK), "needs root, to open /dev/iommu")


def need_ioctl(iommufd: Iommufd, name: str, since: str) -> None:
    """Skip on a kernel without the ioctl *name*, which Linux *since* introduced."""
    if not iommufd.probe()[name]:
        pytest.skip(f"this kernel has no {name} (since Linux {since})")


def need_mock_driver(iommufd: Iommufd) -> None:
    """Skip unless mock devices can be made."""
    ioctls = iommufd.probe()
    need(
        ioctls["IOMMU_TEST_CMD"],
        "needs a kernel with CONFIG_IOMMUFD_TEST: run it in the lab, 'iommufd lab run -- pytest ...'",
    )
    # Kernels such as 6.12 lack IOMMU_IOAS_MAP_FILE, and may make no mock device. On newer kernels a refused mock device
    # is a failure.
    if not (ioctls["IOMMU_IOAS_MAP_FILE"] or mock_makes(iommufd, MockDeviceFlags(0))):
        pytest.skip(NO_MOCK_DEVICE)


def need_container(mode: ContainerMode, bdf: str) -> Container:
    """Return a container of *mode* with its first device; skip if the kernel does not have that mode."""
    try:
        return open_container(mode, bdf)
    except SkipError as reason:
        need(False, str(reason))
        raise


def need_hardware() -> None:
    """Skip on an emulated or virtual machine."""
    platform = environment().platform
    if platform != Platform.BARE_METAL and not FORCED:
        pytest.skip(f"needs bare metal, and this is {platform}; IOMMUFD_FORCE=1 runs it anyway")


def need_disruption() -> None:
    """Skip on a machine that others may use."""
    if not (IN_LAB or FORCED):
        pytest.skip("disturbs other programs on this machine; IOMMUFD_FORCE=1 runs it anyway")
