# SPDX-License-Identifier: MIT
"""Open a device file of VFIO or iommufd for a container."""

import os
from pathlib import Path

from iommufd_py.base.device_node import no_node
from iommufd_py.base.errors import SkipError, ToolError, reason_of
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.objects.iommufd import DEV_IOMMU


def open_container_file(path: Path) -> int:
    """Open */dev/vfio/vfio* or */dev/iommu* for a container.

    Raises:
        SkipError: the kernel has no such file.
        ToolError: the file cannot be opened.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        option = "CONFIG_IOMMUFD" if path == DEV_IOMMU else "CONFIG_VFIO_CONTAINER"
        kernel = f"this kernel has no {option} or its module is not loaded; another container mode may work"
        raise SkipError(no_node(path, kernel)) from None
    except PermissionError:
        raise ToolError(f"no permission to open {path}: {permission_remedy()}") from None
    except OSError as failure:
        raise ToolError(f"{path} cannot be opened: {reason_of(failure)}") from failure
