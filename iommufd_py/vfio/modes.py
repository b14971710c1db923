# SPDX-License-Identifier: MIT
"""Open a container of any mode."""

from iommufd_py.base.arguments import checked
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.uapi.enums import VfioExtension
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.ioas_container import IoasContainer
from iommufd_py.vfio.type1 import DEV_VFIO, Type1Container


@checked
def open_container(mode: ContainerMode, bdf: str) -> Container:
    """Open a container of a mode with its first device.

    Raises:
        SkipError: the kernel does not have this mode.
        DeviceError: the device is not there, not bound to vfio-pci, or in use.
    """
    if mode is ContainerMode.IOMMUFD:
        return IoasContainer(bdf)
    v2 = mode in (ContainerMode.VFIO_TYPE1V2, ContainerMode.COMPAT_TYPE1V2)
    legacy = mode in (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
    return Type1Container(
        bdf,
        VfioExtension.TYPE1V2_IOMMU if v2 else VfioExtension.TYPE1_IOMMU,
        DEV_VFIO if legacy else DEV_IOMMU,
    )
