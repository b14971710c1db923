# SPDX-License-Identifier: MIT
"""The errors of this package, one class for each meaning.

An ioctl that failed keeps its errno: every :class:`IommufdError` is an :class:`OSError`. Everything else that this
package refuses is a :class:`ToolError`, whose text is one sentence with the cause and the remedy. All of them can be
copied and pickled, so they pass from one process to another.
"""

import errno as _errno
import os
from collections.abc import Mapping


class ToolError(Exception):
    """This package refuses a request or cannot continue. The text is one sentence with the cause and the remedy."""


class ArgumentTypeError(ToolError, TypeError):
    """An argument of a call has the wrong type."""


class ArgumentValueError(ToolError, ValueError):
    """An argument of a call has the right type but an impossible value."""


class SkipError(ToolError):
    """This machine cannot do or show the requested operation. That does not mean that the operation would fail."""


class ClosedError(ToolError):
    """An object was used after it was closed, or after an object that it stands on was closed."""


class DeviceError(ToolError):
    """A device is absent, is bound to the wrong driver, or is in use by another process."""


class DmaError(ToolError):
    """A device did not carry out a transfer, or reported that it failed."""


class BackingError(ToolError):
    """The kernel has no memory of the requested kind, or it gave another kind."""


class CoherencyError(ToolError):
    """A HWPT is not coherent or non-coherent as requested; the text names the evidence."""


class IommufdError(OSError):
    """An ioctl of iommufd or VFIO failed.

    Attributes:
        errno: the number that the kernel returned.
        ioctl: name of the ioctl, e.g. ``IOMMU_IOAS_MAP``.
        arguments: its in-fields by name.

    Source: "General ioctl format" in include/uapi/linux/iommufd.h for the general meaning of each errno.
    """

    def __init__(self, number: int, ioctl: str, arguments: Mapping[str, object]) -> None:
        super().__init__(number, os.strerror(number))
        self.ioctl = ioctl
        self.arguments = dict(arguments)

    def __reduce__(self) -> tuple[object, ...]:
        # OSError's own would call the class with the errno and its text. The rest holds notes (PEP 678).
        rest = {name: value for name, value in vars(self).items() if name not in ("ioctl", "arguments")}
        return type(self), (self.errno, self.ioctl, self.arguments), rest

    @property
    def errno_name(self) -> str:
        """The errno as C spells it, e.g. ``EEXIST``."""
        # Linux has two names for 95; the uAPI speaks of this one.
        if self.errno == _errno.EOPNOTSUPP:
            return "EOPNOTSUPP"
        return _errno.errorcode.get(self.errno or 0, str(self.errno))

    @property
    def meaning(self) -> str:
        """The meaning of the errno for this ioctl, with the remedy, or the general meaning of the errno."""
        number = self.errno or 0
        return _MEANINGS.get((self.ioctl, number)) or _GENERAL.get(number) or reason_of(self)

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={show_argument(name, value)}" for name, value in self.arguments.items())
        return f"{self.ioctl}({shown}): {self.errno_name}: {self.meaning}"


class UnsupportedIoctlError(IommufdError):
    """ENOTTY: this kernel does not have the ioctl."""


class NotSupportedError(IommufdError):
    """EOPNOTSUPP: the kernel knows the field but not this value of it, or the hardware cannot do it."""


class TooNewError(IommufdError):
    """E2BIG: a part of the structure that this kernel does not know is not zero."""


class ObjectNotFoundError(IommufdError):
    """ENOENT: no such object id or no such IOVA."""


class BusyError(IommufdError):
    """EBUSY: something else still uses the object."""


class AlreadyMappedError(IommufdError):
    """EEXIST: the IOVA is taken."""


class InvalidFieldError(IommufdError):
    """EINVAL: a field is wrong."""


_CLASSES: dict[int, type[IommufdError]] = {
    _errno.ENOTTY: UnsupportedIoctlError,
    _errno.EOPNOTSUPP: NotSupportedError,
    _errno.E2BIG: TooNewError,
    _errno.ENOENT: ObjectNotFoundError,
    _errno.EBUSY: BusyError,
    _errno.EEXIST: AlreadyMappedError,
    _errno.EINVAL: InvalidFieldError,
}

_GENERAL: dict[int, str] = {
    _errno.ENOTTY: "this kernel does not have the ioctl; a newer kernel or another configuration is needed",
    _errno.E2BIG: "a field that this kernel does not know is set; leave it out or use a newer kernel",
    _errno.EOPNOTSUPP: "the kernel or the hardware does not support this value of a field",
    _errno.EINVAL: "a field is not correct",
    _errno.ENOENT: "no object with this id, or nothing at this IOVA",
    _errno.EBUSY: "still in use by another object; close what depends on it first",
    _errno.ENOMEM: "the kernel is out of memory",
    _errno.EPERM: (
        "not permitted: run as root with all capabilities (a container or a service may drop CAP_SYS_RAWIO, "
        "CAP_SYS_ADMIN or CAP_IPC_LOCK); kernel lockdown and SELinux refuse too, and the kernel log names them"
    ),
    _errno.EFAULT: "a pointer given to the kernel is not valid memory of this process",
    _errno.EOVERFLOW: "a start plus the length goes past the end of the 64-bit space",
}

# The ioctls that pin the pages of mappings. A map pins them if the IOAS has a domain; otherwise the ioctl that gives it
# the first one does.
_PINNING = (
    "IOMMU_IOAS_MAP",
    "IOMMU_IOAS_MAP_FILE",
    "IOMMU_IOAS_COPY",
    "IOMMU_IOAS_CHANGE_PROCESS",
    "IOMMU_HWPT_ALLOC",
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
    "VFIO_GROUP_GET_DEVICE_FD",
    "VFIO_IOMMU_MAP_DMA",
    "IOMMU_TEST_CMD MOCK_DOMAIN",
    "IOMMU_TEST_CMD MOCK_DOMAIN_FLAGS",
    "IOMMU_TEST_CMD MOCK_DOMAIN_REPLACE",
    "IOMMU_TEST_CMD ACCESS_PAGES",
)
# The attaches of the mock driver's devices.
_MOCK_ATTACHES = ("MOCK_DOMAIN", "MOCK_DOMAIN_FLAGS", "MOCK_DOMAIN_REPLACE", "PASID_ATTACH", "PASID_REPLACE")
_MEMLOCK = (
    "the mapped pages cannot be pinned: RLIMIT_MEMLOCK is too low for them, or memory is short; raise the limit "
    "(ulimit -l, /etc/security/limits.conf) or map less"
)
_NOT_IN_RANGE = (
    "the IOVA or the length is zero, misaligned or outside the IOAS's allowed ranges, or the flags allow neither reads "
    "nor writes; see Ioas.iova_ranges() for both the ranges and the alignment"
)
_NOT_IN_FILE = "the file is neither a memfd nor a dma-buf, or ends before the range, or "
_NO_ACCESS = "the mapping does not permit this access: map the memory with MapFlags.READABLE and MapFlags.WRITEABLE"
_TAKEN = "part of this IOVA range is mapped already; unmap it first or choose another IOVA"
_NOT_MAPPED = "nothing is mapped in this range, or a mapping reaches past its ends; unmap whole mappings only"
_PAST_THE_RANGE = "a mapping reaches past the ends of the range; unmap whole mappings only"
_BAD_MEMORY = (
    "part of the user memory is not mapped, or not writable as the mapping asks; device memory (BARs) cannot be "
    "mapped from a pointer, except in a container of VFIO's own"
)
_RESERVED = (
    "a mapping of the IOAS, or a range that Ioas.allow_iovas() demands, lies in a range the device reserves or cannot "
    "reach; unmap it first, or demand other ranges"
)
_OTHER_DRIVER = (
    "the device's group is in use, by another driver or through the other interface (/dev/vfio/<group> or "
    "/dev/vfio/devices); free every device of the group"
)
_UNSAFE_INTERRUPTS = (
    "another driver has a device of the group ('iommufd device show BDF'), or the IOMMU does not remap interrupts: for "
    "a device that you trust, echo 1 > /sys/module/{module}/parameters/allow_unsafe_interrupts"
)
_NO_VF_TOKEN = "a VF token was given for a device that has none (leave it out)"
_VF_TOKEN = (
    "a VF token is missing or wrong: vfio-pci has the physical function too, and its owner gives the token to the "
    "users of the virtual functions; pass it as vf_token, at the command line with --vf-token"
)
# __iommu_device_set_domain() in drivers/iommu/iommu.c, which looks at dev->iommu->require_direct, logs the sentence.
_ONE_TO_ONE = (
    "the firmware wants a region of the device mapped 1:1: 'iommufd device show BDF' says so at \"viable\", the kernel "
    'log "Firmware has requested this device have a 1:1 IOMMU mapping", and only another firmware changes it'
)
_NO_TRACKING = "the HWPT was not made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING; ask for it when allocating it"
_NO_IOMMU = (
    "no object has one of these ids; a device that a driver emulates (a mediated device) has no IOMMU: attach it to an "
    "IOAS instead"
)
_NO_ROOM = "no free IOVA range of this length is left in the allowed ranges; unmap something"

NO_MOCK_DEVICE = (
    "the kernel made no mock device: its series may have no mock support beside another IOMMU driver (6.12: boot with "
    "intel_iommu=off or amd_iommu=off), or a User-Mode Linux kernel lacks the patches of iommufd_py/lab/patches/um"
)

# The meaning of an errno for one ioctl, where it says more than the general meaning.
_MEANINGS: dict[tuple[str, int], str] = {
    **{(ioctl, _errno.ENOMEM): _MEMLOCK for ioctl in _PINNING},
    **{(ioctl, _errno.EFAULT): _BAD_MEMORY for ioctl in _PINNING},
    **{(f"IOMMU_TEST_CMD {attach}", _errno.EADDRINUSE): _RESERVED for attach in _MOCK_ATTACHES},
    ("IOMMU_IOAS_MAP", _errno.EINVAL): _NOT_IN_RANGE,
    ("IOMMU_IOAS_MAP", _errno.EEXIST): _TAKEN,
    ("IOMMU_IOAS_MAP", _errno.ENOSPC): _NO_ROOM,
    ("IOMMU_IOAS_MAP_FILE", _errno.EINVAL): _NOT_IN_FILE + _NOT_IN_RANGE,
    ("IOMMU_IOAS_MAP_FILE", _errno.EEXIST): _TAKEN,
    ("IOMMU_IOAS_MAP_FILE", _errno.ENOSPC): _NO_ROOM,
    ("IOMMU_IOAS_MAP_FILE", _errno.EOPNOTSUPP): (
        "the dma-buf is not one that VFIO exports, and iommufd maps no others, or the kernel has no "
        "CONFIG_VFIO_PCI_DMABUF"
    ),
    ("IOMMU_IOAS_MAP_FILE", _errno.EBADF): "the file descriptor is not an open memfd or dma-buf",
    ("IOMMU_IOAS_NOIOMMU_GET_PA", _errno.EOPNOTSUPP): (
        "the IOAS has no device without an IOMMU, or also has a device behind an IOMMU"
    ),
    ("IOMMU_IOAS_NOIOMMU_GET_PA", _errno.ENOENT): "nothing is mapped at this IOVA",
    ("IOMMU_IOAS_COPY", _errno.EINVAL): _NOT_IN_RANGE,
    ("IOMMU_IOAS_COPY", _errno.EEXIST): _TAKEN,
    ("IOMMU_IOAS_COPY", _errno.ENOSPC): _NO_ROOM,
    ("IOMMU_IOAS_COPY", _errno.ENOENT): "no IOAS with this id, or the source range is not wholly mapped",
    ("IOMMU_IOAS_COPY", _errno.EPERM): (
        "the source is mapped without MapFlags.WRITEABLE, which a copy cannot add: copy it with MapFlags.READABLE, or "
        "map the memory anew with both"
    ),
    ("IOMMU_IOAS_UNMAP", _errno.ENOENT): _NOT_MAPPED,
    ("IOMMU_IOAS_UNMAP", _errno.EINVAL): "the length is zero",
    ("IOMMU_IOAS_UNMAP", _errno.EBUSY): "a hardware queue or another thread's map or unmap still uses the range",
    ("IOMMU_IOAS_ALLOW_IOVAS", _errno.EINVAL): "two ranges overlap, or one is shorter than two bytes",
    ("IOMMU_IOAS_ALLOW_IOVAS", _errno.EADDRINUSE): "part of the range is reserved by an attached device",
    ("IOMMU_DESTROY", _errno.EBUSY): (
        "the object is still used: detach the devices of a HWPT, destroy the HWPTs of an IOAS first"
    ),
    ("IOMMU_DESTROY", _errno.ENOENT): "no object with this id; it may be destroyed already",
    ("IOMMU_OPTION", _errno.EBUSY): "the accounting mode can only change before any object is made on the iommufd",
    ("IOMMU_OPTION", _errno.EINVAL): (
        "the option does not take this value, or huge pages are switched off too late: do it before the IOAS has both "
        "a mapping and a HWPT"
    ),
    ("IOMMU_OPTION", _errno.EPERM): "changing the accounting mode needs CAP_SYS_RESOURCE; run as root",
    ("IOMMU_HWPT_ALLOC", _errno.EOPNOTSUPP): "this IOMMU does not support a HWPT with these flags or this data type",
    ("IOMMU_HWPT_ALLOC", _errno.EADDRINUSE): _RESERVED,
    ("IOMMU_GET_HW_INFO", _errno.EOPNOTSUPP): "this kernel cannot answer for this type of IOMMU or these flags",
    ("VFIO_DEVICE_BIND_IOMMUFD", _errno.EINVAL): (
        "the device is bound already ('fuser -v /dev/vfio/devices/*' shows the process; end it first), its IOMMU is "
        f"not cache coherent for the CPU, interrupts cannot be isolated, {_NO_VF_TOKEN}, or {_ONE_TO_ONE}"
    ),
    ("VFIO_DEVICE_BIND_IOMMUFD", _errno.EACCES): _VF_TOKEN,
    ("VFIO_GROUP_GET_DEVICE_FD", _errno.EACCES): _VF_TOKEN,
    ("VFIO_DEVICE_BIND_IOMMUFD", _errno.EBADF): "the descriptor is not an iommufd",
    ("VFIO_DEVICE_BIND_IOMMUFD", _errno.EBUSY): _OTHER_DRIVER,
    ("VFIO_DEVICE_BIND_IOMMUFD", _errno.EPERM): _UNSAFE_INTERRUPTS.format(module="iommufd"),
    (
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
        _errno.ENOENT,
    ): "no IOAS or HWPT with this id on the iommufd the device is bound to",
    ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", _errno.EADDRINUSE): _RESERVED,
    ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", _errno.EINVAL): (
        "the HWPT was made for another IOMMU or other capabilities (such as PASIDs), another device of the group is "
        f"attached to another HWPT, or {_ONE_TO_ONE}"
    ),
    ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", _errno.EOPNOTSUPP): "the device, its IOMMU or its driver has no PASIDs",
    **{
        (f"VFIO_DEVICE_{call}", _errno.ENOTTY): "the driver of the device, or this kernel, does not have the ioctl"
        for call in ("RESET", "IOEVENTFD", "GET_PCI_HOT_RESET_INFO", "PCI_HOT_RESET")
    },
    ("VFIO_DEVICE_RESET", _errno.EAGAIN): "somebody else resets the device or its bus at this moment; try again",
    ("VFIO_DEVICE_RESET", _errno.EINVAL): "the device has no reset method that VFIO may use",
    ("IOMMU_TEST_CMD MOCK_DOMAIN", _errno.EINVAL): NO_MOCK_DEVICE,
    (
        "IOMMU_TEST_CMD MOCK_DOMAIN_FLAGS",
        _errno.EINVAL,
    ): f"the kernel does not know a flag of the device, or {NO_MOCK_DEVICE}",
    ("IOMMU_IOAS_CHANGE_PROCESS", _errno.EINVAL): (
        "a mapping was made by IOMMU_IOAS_MAP: only mappings by IOMMU_IOAS_MAP_FILE can change their process"
    ),
    ("VFIO_DEVICE_GET_INFO", _errno.EINVAL): "the device is not bound to an iommufd yet; bind it first",
    ("VFIO_DEVICE_GET_REGION_INFO", _errno.EINVAL): "the device has no region of this index",
    ("VFIO_DEVICE_GET_IRQ_INFO", _errno.EINVAL): "the device has no interrupts of this index",
    ("VFIO_DEVICE_SET_IRQS", _errno.EINVAL): (
        "the device has fewer interrupts of this index, cannot do this with them, or another index is enabled: disable "
        "that one first"
    ),
    ("VFIO_DEVICE_SET_IRQS", _errno.EBUSY): "the device's line is shared and it cannot mask INTx; use MSI",
    ("VFIO_DEVICE_IOEVENTFD", _errno.EEXIST): "another eventfd already does this write; close it first",
    ("VFIO_DEVICE_IOEVENTFD", _errno.EINVAL): (
        "only a BAR is written to by an eventfd, in naturally aligned widths, and not where the MSI-X table is"
    ),
    ("VFIO_DEVICE_FEATURE", _errno.ENOTTY): "the device or this kernel does not have the feature",
    (
        "VFIO_DEVICE_FEATURE",
        _errno.EINVAL,
    ): "the feature does not have this operation, or its data has the wrong length",
    ("VFIO_MIG_GET_PRECOPY_INFO", _errno.EINVAL): "the device is in neither of the states PRE_COPY and PRE_COPY_P2P",
    ("VFIO_GROUP_SET_CONTAINER", _errno.EINVAL): (
        "the group is in a container already, so close that first, or a mapping of the container lies in a range that "
        f"a device of the group reserves or cannot reach, so unmap it first, or {_ONE_TO_ONE}"
    ),
    ("VFIO_GROUP_SET_CONTAINER", _errno.EPERM): _UNSAFE_INTERRUPTS.format(module="vfio_iommu_type1"),
    ("VFIO_GROUP_SET_CONTAINER", _errno.EBUSY): (
        f"{_OTHER_DRIVER}, or user addresses of the container are invalidated: update them first"
    ),
    ("VFIO_GROUP_SET_CONTAINER", _errno.EBADFD): "the descriptor is neither a VFIO container nor an iommufd",
    ("VFIO_GROUP_UNSET_CONTAINER", _errno.EINVAL): "the group is in no container",
    ("VFIO_GROUP_UNSET_CONTAINER", _errno.EBUSY): "a device of the group is still open; close it first",
    ("VFIO_GROUP_GET_DEVICE_FD", _errno.EINVAL): (
        "the group is in no container, or that has no IOMMU type yet (VFIO_SET_IOMMU), or "
        f"{_NO_VF_TOKEN}, or {_ONE_TO_ONE}"
    ),
    ("VFIO_GROUP_GET_DEVICE_FD", _errno.ENODEV): "the group has no device of this name that is bound to vfio-pci",
    # A container of iommufd binds the device to the iommufd in this call.
    ("VFIO_GROUP_GET_DEVICE_FD", _errno.EPERM): _UNSAFE_INTERRUPTS.format(module="iommufd"),
    ("VFIO_GROUP_GET_DEVICE_FD", _errno.EBUSY): _OTHER_DRIVER,
    ("VFIO_GROUP_GET_DEVICE_FD", _errno.EADDRINUSE): _RESERVED,
    ("VFIO_SET_IOMMU", _errno.EINVAL): (
        f"the container has no group yet, has an IOMMU type already, or does not know this one, or {_ONE_TO_ONE}"
    ),
    ("VFIO_SET_IOMMU", _errno.ENODEV): "this kernel has no such IOMMU type, or the container has no group yet",
    ("VFIO_SET_IOMMU", _errno.EPERM): _UNSAFE_INTERRUPTS.format(module="vfio_iommu_type1"),
    ("VFIO_CHECK_EXTENSION", _errno.ENODEV): "no compatibility IOAS is set on this iommufd",
    ("VFIO_IOMMU_GET_INFO", _errno.ENODEV): "no compatibility IOAS is set on this iommufd",
    ("VFIO_IOMMU_GET_INFO", _errno.EINVAL): "the container has no IOMMU type yet; put a group into it first",
    ("VFIO_IOMMU_MAP_DMA", _errno.EINVAL): (
        "the IOVA, the address or the length is zero, misaligned or outside the allowed ranges (see "
        "Container.iova_ranges()), or the container has no group"
    ),
    ("VFIO_IOMMU_MAP_DMA", _errno.EEXIST): _TAKEN,
    ("VFIO_IOMMU_MAP_DMA", _errno.ENOSPC): (
        "the container has no mapping left: unmap something, or raise dma_entry_limit "
        "(/sys/module/vfio_iommu_type1/parameters/dma_entry_limit)"
    ),
    ("VFIO_IOMMU_UNMAP_DMA", _errno.EINVAL): (
        "a mapping reaches past the ends of the range, the IOVA or the length is zero or misaligned, or the container "
        "has no group; unmap whole mappings only"
    ),
    ("VFIO_IOMMU_UNMAP_DMA", _errno.EBUSY): (
        "user addresses cannot be invalidated while a mediated device is in the container; close that device first"
    ),
    ("VFIO_IOMMU_UNMAP_DMA", _errno.ENOENT): _PAST_THE_RANGE,
    ("VFIO_IOMMU_DIRTY_PAGES", _errno.EACCES): (
        "only a container of version 2 of the type1 interface tracks dirty pages; open it as vfio_type1v2"
    ),
    ("VFIO_IOMMU_DIRTY_PAGES", _errno.ENOTTY): (
        "iommufd's compatibility layer tracks no dirty pages; open the container as vfio_type1v2, or track those of a "
        "HWPT"
    ),
    ("VFIO_IOMMU_DIRTY_PAGES", _errno.EINVAL): (
        "dirty tracking is off, the range cuts a mapping, or the IOVA, the length or the page size does not fit the "
        "IOMMU's smallest page"
    ),
    (
        "IOMMU_VDEVICE_ALLOC",
        _errno.EEXIST,
    ): "another device of the vIOMMU has this virtual id, or the device already has a vDevice",
    ("IOMMU_VIOMMU_ALLOC", _errno.EINVAL): (
        "the HWPT was not made with HwptAllocFlags.NEST_PARENT, or the IOMMU refuses the data of the type"
    ),
    ("IOMMU_VEVENTQ_ALLOC", _errno.EINVAL): "the depth must be at least 1, and at most 2^19",
    ("IOMMU_VEVENTQ_ALLOC", _errno.EEXIST): "the vIOMMU has a queue for events of this type",
    ("IOMMU_HW_QUEUE_ALLOC", _errno.EINVAL): "the length is zero, or the IOMMU has no hardware queue with this index",
    ("IOMMU_HW_QUEUE_ALLOC", _errno.EEXIST): "the vIOMMU has a hardware queue with this index",
    ("IOMMU_HW_QUEUE_ALLOC", _errno.EIO): "hardware queues are made in the order of their indices, from 0",
    ("IOMMU_HWPT_SET_DIRTY_TRACKING", _errno.EOPNOTSUPP): _NO_TRACKING,
    ("IOMMU_HWPT_GET_DIRTY_BITMAP", _errno.EOPNOTSUPP): _NO_TRACKING,
    ("IOMMU_HWPT_INVALIDATE", _errno.EINVAL): (
        "the entry after those that were handled has a length, a type or a content that the IOMMU does not know"
    ),
    ("IOMMU_GET_HW_INFO", _errno.ENOENT): _NO_IOMMU,
    ("IOMMU_HWPT_ALLOC", _errno.ENOENT): _NO_IOMMU,
    ("write(FaultQueue)", _errno.EINVAL): "no fault with this cookie waits for an answer",
    ("mmap", _errno.ENXIO): "the vIOMMU lends no registers at this offset with this length; its data has both",
    ("IOMMU_HWPT_GET_DIRTY_BITMAP", _errno.EINVAL): (
        "the IOVA and the length must be multiples of the requested page size and of the IOMMU's smallest page; see "
        "Ioas.iova_ranges() for the alignment"
    ),
    ("IOMMU_TEST_CMD ACCESS_RW", _errno.EPERM): _NO_ACCESS,
    ("IOMMU_TEST_CMD ACCESS_PAGES", _errno.EPERM): _NO_ACCESS,
    ("IOMMU_IOAS_MAP_FILE", _errno.ENODEV): (
        "the dma-buf's exporter has revoked its memory: its device is in reset, or memory decoding is off"
    ),
    ("IOMMU_VFIO_IOAS", _errno.ENODEV): "no compatibility IOAS is set on this iommufd",
}

_HEX = ("iova", "user_va", "addr", "flags", "_uptr", "vaddr")


def show_argument(name: str, value: object) -> str:
    """Return the text of an ioctl's field: addresses and flags in hexadecimal, other numbers in decimal."""
    if isinstance(value, int) and name.endswith(_HEX):
        return hex(value)
    return str(int(value)) if isinstance(value, int) else repr(value)


def check_result(result: int, ioctl: str, arguments: Mapping[str, object]) -> int:
    """Return *result*, or raise the :class:`IommufdError` for it if it is a negative errno."""
    if result < 0:
        raise _by_meaning(-result, ioctl, arguments)
    return result


def call_error(failure: OSError, call: str, arguments: Mapping[str, object]) -> IommufdError:
    """Return the :class:`IommufdError` for a call of Python that the kernel refused, such as ``read``."""
    return _by_meaning(failure.errno or 0, call, arguments)


def _by_meaning(number: int, call: str, arguments: Mapping[str, object]) -> IommufdError:
    return _CLASSES.get(number, IommufdError)(number, call, arguments)


_LIMITS: Mapping[int | None, str] = {
    _errno.EMFILE: "raise the limit of open files (ulimit -n)",
    _errno.ENFILE: "raise the limit of the system (sysctl fs.file-max)",
    _errno.EFBIG: "raise the limit of the size of a file (ulimit -f)",
}


def reason_of(failure: OSError, otherwise: str = "") -> str:
    """Return the kernel's reason for a refused call that is no ioctl, with a remedy.

    Args:
        failure: the error.
        otherwise: the remedy if no limit is reached; none if it is empty.
    """
    reason = failure.strerror or str(failure)
    remedy = _LIMITS.get(failure.errno, otherwise)
    return f"{reason}; {remedy}" if remedy else reason
