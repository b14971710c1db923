# SPDX-License-Identifier: MIT
"""Open a container of any mode."""

from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.uapi.enums import VfioExtension
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.ioas_container import IoasContainer
from iommufd_py.vfio.type1 import DEV_VFIO, Type1Container


@checked
def open_container(mode: ContainerMode, bdf: str, *, vf_token: UUID | str | None = None) -> Container:
    """Open a container of a mode with its first device; *vf_token* is as for :class:`VfioDevice`.

    Raises:
        SkipError: the kernel does not have this mode.
        DeviceError: the device does not exist, is not bound to vfio-pci, or is in use.
    """
    if mode is ContainerMode.IOMMUFD:
        return IoasContainer(bdf, vf_token=vf_token)
    v2 = mode in (ContainerMode.VFIO_TYPE1V2, ContainerMode.COMPAT_TYPE1V2)
    legacy = mode in (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
    return Type1Container(
        bdf,
        VfioExtension.TYPE1V2_IOMMU if v2 else VfioExtension.TYPE1_IOMMU,
        DEV_VFIO if legacy else DEV_IOMMU,
        vf_token=vf_token,
    )
