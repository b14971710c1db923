# SPDX-License-Identifier: MIT
"""A userspace VFIO/iommufd driver tool: the objects of /dev/iommu as Python objects.

    with Iommufd() as iommufd, DmaBuffer(2 << 20, Backing.THP) as buffer:
        device = VfioDevice(iommufd, "0000:3b:00.0")
        ioas = iommufd.alloc_ioas()
        hwpt = device.alloc_hwpt(ioas, coherency=Coherency.NON_COHERENT)
        device.attach(hwpt)
        mapping = ioas.map(buffer)

Importing the package opens nothing and needs no /dev/iommu. It loads :mod:`iommufd_py.api` when a program asks for the
first name: pytest imports the package to find the plugin, and a run that does not use the plugin pays nothing more.
"""

# The module imports nothing: whatever is imported here comes before the command line can set its handler of Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from iommufd_py.api import *  # noqa: F403
del TYPE_CHECKING  # It is no name for users: dir() and Tab would show it.


def __getattr__(name: str) -> object:
    import importlib

    if name == "__version__":
        value: object = importlib.import_module("iommufd_py.base.version").tool_version()
    elif name == "__all__":
        value = _api_names()
    elif name in _api_names():
        value = getattr(importlib.import_module("iommufd_py.api"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The next use of the name finds it at once.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_api_names(), "__version__"})


def _api_names() -> list[str]:
    import importlib

    return list(importlib.import_module("iommufd_py.api").__all__)
