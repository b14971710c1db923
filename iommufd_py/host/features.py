# SPDX-License-Identifier: MIT
"""Probe the features of iommufd and VFIO in the running kernel. Its version is not used."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.errors import InvalidFieldError, ToolError
from iommufd_py.base.sysfs import attribute_text, kernel_text, limit_named
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import IommuOption, VfioExtension

_CONTAINER = Path("/dev/vfio/vfio")
_VFIO_PCI = Path("/sys/bus/pci/drivers/vfio-pci")
_NOIOMMU = Path("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")

_EXTENSIONS = (
    VfioExtension.TYPE1_IOMMU,
    VfioExtension.TYPE1V2_IOMMU,
    VfioExtension.UNMAP_ALL,
    VfioExtension.UPDATE_VADDR,
    VfioExtension.NOIOMMU_IOMMU,
)


@dataclass(frozen=True, slots=True)
class ContainerSupport:
    """The container interface, /dev/vfio/vfio.

    Attributes:
        served_by: ``vfio`` (the type1 container) or ``iommufd`` (its compatibility layer).
        extensions: answers of VFIO_CHECK_EXTENSION by the extension's name.
    """

    served_by: str
    extensions: dict[str, bool]


@dataclass(frozen=True, slots=True)
class KernelFeatures:
    """Features of the running kernel.

    Attributes:
        iommufd_problem: the reason why /dev/iommu cannot be used, with the remedy; empty if it can.
        ioctls: whether the kernel has each ioctl, by name; empty if /dev/iommu cannot be used.
        vfio_cdev: whether VFIO devices get a /dev/vfio/devices/vfioN; also False while vfio is not loaded.
        vfio_group: whether VFIO groups get a /dev/vfio/N; also False while vfio is not loaded.
        vfio_pci: whether the vfio-pci driver is loaded.
        container: None if /dev/vfio/vfio does not exist or cannot be opened.
        noiommu: whether VFIO allows devices without an IOMMU; None on a kernel without this mode.
    """

    iommufd_problem: str
    ioctls: dict[str, bool]
    vfio_cdev: bool
    vfio_group: bool
    vfio_pci: bool
    container: ContainerSupport | None
    noiommu: bool | None


def kernel_features() -> KernelFeatures:
    """Probe the running kernel without changing anything."""
    problem, ioctls = "", {}
    try:
        with Iommufd() as iommufd:
            ioctls = iommufd.probe()
    except ToolError as failure:
        problem = str(failure)
    numbers = parse_character_devices(kernel_text(Path("/proc/devices")))
    return KernelFeatures(
        iommufd_problem=problem,
        ioctls=ioctls,
        vfio_cdev="vfio-dev" in numbers,
        vfio_group="vfio" in numbers,
        vfio_pci=_VFIO_PCI.exists(),
        container=_container(),
        noiommu=allowed == "Y" if (allowed := attribute_text(_NOIOMMU)) else None,
    )


def parse_character_devices(text: str) -> frozenset[str]:
    """Return the names of the character devices in /proc/devices."""
    characters, _, _ = text.partition("Block devices:")
    return frozenset(re.findall(r"^\s*\d+ (\S+)$", characters, re.MULTILINE))


def _container() -> ContainerSupport | None:
    try:
        with limit_named(_CONTAINER):
            fd = os.open(_CONTAINER, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        extensions = {one.name: bool(vfio.check_extension(fd, one)) for one in _EXTENSIONS}
        return ContainerSupport("iommufd" if _is_iommufd(fd) else "vfio", extensions)
    finally:
        os.close(fd)


def _is_iommufd(fd: int) -> bool:
    # Both answer the container's ioctls. The type1 container returns EINVAL for all others, so probe() cannot be used.
    try:
        uapi.option_get(fd, IommuOption.RLIMIT_MODE)
    except InvalidFieldError:
        return False
    return True
