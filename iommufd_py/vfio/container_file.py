# SPDX-License-Identifier: MIT
"""Open a device file of VFIO or iommufd for a container."""

from pathlib import Path

from iommufd_py.base.device_node import NoNodeError, open_node
from iommufd_py.base.errors import SkipError, ToolError, reason_of
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.objects.iommufd import DEV_IOMMU


def open_container_file(path: Path) -> int:
    """Open */dev/vfio/vfio* or */dev/iommu* for a container.

    Raises:
        SkipError: the kernel has no such file.
        ToolError: the file cannot be opened.
    """
    option = "CONFIG_IOMMUFD" if path == DEV_IOMMU else "CONFIG_VFIO_CONTAINER"
    try:
        return open_node(
            path, f"this kernel has no {option} or its module is not loaded; another container mode may work"
        )
    except NoNodeError as failure:
        raise SkipError(str(failure)) from None
    except PermissionError:
        raise ToolError(f"no permission to open {path}: {permission_remedy()}") from None
    except OSError as failure:
        raise ToolError(f"{path} cannot be opened: {reason_of(failure)}") from failure
