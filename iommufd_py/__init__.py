# SPDX-License-Identifier: MIT
"""A userspace VFIO/iommufd driver tool: the objects of /dev/iommu as Python objects.

    with Iommufd() as iommufd, DmaBuffer(2 << 20, Backing.THP) as buffer:
        device = VfioDevice(iommufd, "0000:3b:00.0")
        ioas = iommufd.alloc_ioas()
        hwpt = device.alloc_hwpt(ioas, coherency=Coherency.NON_COHERENT)
        device.attach(hwpt)
        mapping = ioas.map(buffer)

Importing it opens nothing and needs no /dev/iommu. The names come from :mod:`iommufd_py.api`, when one is asked for:
pytest imports the package to find our plugin, and a run that does not use it shall not pay for more.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iommufd_py.api import *  # noqa: F403


def __getattr__(name: str) -> object:
    api = importlib.import_module("iommufd_py.api")
    if name not in (*api.__all__, "__all__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(api, name)
