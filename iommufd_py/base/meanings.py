# SPDX-License-Identifier: MIT
"""The meaning of each errno for each ioctl of iommufd and VFIO, with the remedy.

Source: the kernel's drivers/iommu/iommufd/, drivers/vfio/ and drivers/iommu/iommu.c.
"""

import errno

_GENERAL: dict[int, str] = {
    errno.ENOTTY: "this kernel does not have the ioctl; a newer kernel or another configuration is needed",
    errno.E2BIG: "a field that this kernel does not know is set; leave it out or use a newer kernel",
    errno.EOPNOTSUPP: "the kernel or the hardware does not support this value of a field",
    errno.EINVAL: "a field is not correct",
    errno.ENOENT: "no object with this id, or nothing at this IOVA",
    errno.EBUSY: "still in use by another object; close what depends on it first",
    errno.ENOMEM: "the kernel is out of memory",
    errno.EPERM: (
        "not permitted: run as root with all capabilities (a container or a service may drop CAP_SYS_RAWIO, "
        "CAP_SYS_ADMIN or CAP_IPC_LOCK); kernel lockdown and SELinux refuse too, and the kernel log names them"
    ),
    errno.EFAULT: "a pointer given to the kernel is not valid memory of this process",
    errno.EOVERFLOW: "a start plus the length goes past the end of the 64-bit space",
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
_NO_ACCESS = "the mapping does not permit this access: map the memory with MapFlags.READABLE and MapFlags.WRITEABLE"
_TAKEN = "part of this IOVA range is mapped already; unmap it first or choose another IOVA"
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
_NO_COMPATIBILITY_IOAS = "no compatibility IOAS is set on this iommufd"
_NO_ROOM = "no free IOVA range of this length is left in the allowed ranges; unmap something"

NO_MOCK_DEVICE = (
    "the kernel made no mock device: its series may have no mock support beside another IOMMU driver (6.12: boot with "
    "intel_iommu=off or amd_iommu=off), or a User-Mode Linux kernel lacks the patches of iommufd_py/lab/patches/um"
)

# The meaning of an errno for one ioctl, where it says more than the general meaning.
_MEANINGS: dict[tuple[str, int], str] = {
    **{(ioctl, errno.ENOMEM): _MEMLOCK for ioctl in _PINNING},
    **{(ioctl, errno.EFAULT): _BAD_MEMORY for ioctl in _PINNING},
    **{(f"IOMMU_TEST_CMD {attach}", errno.EADDRINUSE): _RESERVED for attach in _MOCK_ATTACHES},
    ("IOMMU_IOAS_MAP", errno.EINVAL): _NOT_IN_RANGE,
    ("IOMMU_IOAS_MAP", errno.EEXIST): _TAKEN,
    ("IOMMU_IOAS_MAP", errno.ENOSPC): _NO_ROOM,
    ("IOMMU_IOAS_MAP_FILE", errno.EINVAL): (
        f"the file is neither a memfd nor a dma-buf, or ends before the range, or {_NOT_IN_RANGE}"
    ),
    ("IOMMU_IOAS_MAP_FILE", errno.EEXIST): _TAKEN,
    ("IOMMU_IOAS_MAP_FILE", errno.ENOSPC): _NO_ROOM,
    ("IOMMU_IOAS_MAP_FILE", errno.EOPNOTSUPP): (
        "the dma-buf is not one that VFIO exports, and iommufd maps no others, or the kernel has no "
        "CONFIG_VFIO_PCI_DMABUF"
    ),
    ("IOMMU_IOAS_MAP_FILE", errno.EBADF): "the file descriptor is not an open memfd or dma-buf",
    ("IOMMU_IOAS_MAP_FILE", errno.ENODEV): (
        "the dma-buf's exporter has revoked its memory: its device is in reset, or memory decoding is off"
    ),
    ("IOMMU_IOAS_NOIOMMU_GET_PA", errno.EOPNOTSUPP): (
        "the IOAS has no device without an IOMMU, or also has a device behind an IOMMU"
    ),
    ("IOMMU_IOAS_NOIOMMU_GET_PA", errno.ENOENT): "nothing is mapped at this IOVA",
    ("IOMMU_IOAS_COPY", errno.EINVAL): _NOT_IN_RANGE,
    ("IOMMU_IOAS_COPY", errno.EEXIST): _TAKEN,
    ("IOMMU_IOAS_COPY", errno.ENOSPC): _NO_ROOM,
    ("IOMMU_IOAS_COPY", errno.ENOENT): "no IOAS with this id, or the source range is not wholly mapped",
    ("IOMMU_IOAS_COPY", errno.EPERM): (
        "the source is mapped without MapFlags.WRITEABLE, which a copy cannot add: copy it with MapFlags.READABLE, or "
        "map the memory anew with both"
    ),
    ("IOMMU_IOAS_UNMAP", errno.ENOENT): (
        "nothing is mapped in this range, or a mapping reaches past its ends; unmap whole mappings only"
    ),
    ("IOMMU_IOAS_UNMAP", errno.EINVAL): "the length is zero",
    ("IOMMU_IOAS_UNMAP", errno.EBUSY): "a hardware queue or another thread's map or unmap still uses the range",
    ("IOMMU_IOAS_ALLOW_IOVAS", errno.EINVAL): "two ranges overlap, or one is shorter than two bytes",
    ("IOMMU_IOAS_ALLOW_IOVAS", errno.EADDRINUSE): "part of the range is reserved by an attached device",
    ("IOMMU_DESTROY", errno.EBUSY): (
        "the object is still used: detach the devices of a HWPT, destroy the HWPTs of an IOAS first"
    ),
    ("IOMMU_DESTROY", errno.ENOENT): "no object with this id; it may be destroyed already",
    ("IOMMU_OPTION", errno.EBUSY): "the accounting mode can only change before any object is made on the iommufd",
    ("IOMMU_OPTION", errno.EINVAL): (
        "the option does not take this value, or huge pages are switched off too late: do it before the IOAS has both "
        "a mapping and a HWPT"
    ),
    ("IOMMU_OPTION", errno.EPERM): "changing the accounting mode needs CAP_SYS_RESOURCE; run as root",
    ("IOMMU_HWPT_ALLOC", errno.EOPNOTSUPP): "this IOMMU does not support a HWPT with these flags or this data type",
    ("IOMMU_HWPT_ALLOC", errno.EADDRINUSE): _RESERVED,
    ("IOMMU_HWPT_ALLOC", errno.ENOENT): _NO_IOMMU,
    ("IOMMU_GET_HW_INFO", errno.EOPNOTSUPP): "this kernel cannot answer for this type of IOMMU or these flags",
    ("IOMMU_GET_HW_INFO", errno.ENOENT): _NO_IOMMU,
    ("VFIO_DEVICE_BIND_IOMMUFD", errno.EINVAL): (
        "the device is bound already ('fuser -v /dev/vfio/devices/*' shows the process; end it first), its IOMMU is "
        f"not cache coherent for the CPU, interrupts cannot be isolated, {_NO_VF_TOKEN}, or {_ONE_TO_ONE}"
    ),
    ("VFIO_DEVICE_BIND_IOMMUFD", errno.EACCES): _VF_TOKEN,
    ("VFIO_DEVICE_BIND_IOMMUFD", errno.EBADF): "the descriptor is not an iommufd",
    ("VFIO_DEVICE_BIND_IOMMUFD", errno.EBUSY): _OTHER_DRIVER,
    ("VFIO_DEVICE_BIND_IOMMUFD", errno.EPERM): _UNSAFE_INTERRUPTS.format(module="iommufd"),
    ("VFIO_GROUP_GET_DEVICE_FD", errno.EACCES): _VF_TOKEN,
    ("VFIO_GROUP_GET_DEVICE_FD", errno.EINVAL): (
        "the group is in no container, or the container has no IOMMU type yet (VFIO_SET_IOMMU), or "
        f"{_NO_VF_TOKEN}, or {_ONE_TO_ONE}"
    ),
    ("VFIO_GROUP_GET_DEVICE_FD", errno.ENODEV): "the group has no device of this name that is bound to vfio-pci",
    # A container of iommufd binds the device to the iommufd in this call.
    ("VFIO_GROUP_GET_DEVICE_FD", errno.EPERM): _UNSAFE_INTERRUPTS.format(module="iommufd"),
    ("VFIO_GROUP_GET_DEVICE_FD", errno.EBUSY): _OTHER_DRIVER,
    ("VFIO_GROUP_GET_DEVICE_FD", errno.EADDRINUSE): _RESERVED,
    ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", errno.ENOENT): (
        "no IOAS or HWPT with this id on the iommufd that the device is bound to"
    ),
    ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", errno.EADDRINUSE): _RESERVED,
    ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", errno.EINVAL): (
        "the HWPT was made for another IOMMU or other capabilities (such as PASIDs), another device of the group is "
        f"attached to another HWPT, or {_ONE_TO_ONE}"
    ),
    ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", errno.EOPNOTSUPP): "the device, its IOMMU or its driver has no PASIDs",
    **{
        (f"VFIO_DEVICE_{call}", errno.ENOTTY): "the driver of the device, or this kernel, does not have the ioctl"
        for call in ("RESET", "IOEVENTFD", "GET_PCI_HOT_RESET_INFO", "PCI_HOT_RESET")
    },
    ("VFIO_DEVICE_RESET", errno.EAGAIN): "somebody else resets the device or its bus at this moment; try again",
    ("VFIO_DEVICE_RESET", errno.EINVAL): "the device has no reset method that VFIO may use",
    ("IOMMU_TEST_CMD MOCK_DOMAIN", errno.EINVAL): NO_MOCK_DEVICE,
    ("IOMMU_TEST_CMD MOCK_DOMAIN_FLAGS", errno.EINVAL): (
        f"the kernel does not know a flag of the device, or {NO_MOCK_DEVICE}"
    ),
    ("IOMMU_IOAS_CHANGE_PROCESS", errno.EINVAL): (
        "a mapping was made by IOMMU_IOAS_MAP: only mappings by IOMMU_IOAS_MAP_FILE can change their process"
    ),
    ("VFIO_DEVICE_GET_INFO", errno.EINVAL): "the device is not bound to an iommufd yet; bind it first",
    ("VFIO_DEVICE_GET_REGION_INFO", errno.EINVAL): "the device has no region of this index",
    ("VFIO_DEVICE_GET_IRQ_INFO", errno.EINVAL): "the device has no interrupts of this index",
    ("VFIO_DEVICE_SET_IRQS", errno.EINVAL): (
        "the device has fewer interrupts of this index, cannot do this with them, or another index is enabled: disable "
        "that one first"
    ),
    ("VFIO_DEVICE_SET_IRQS", errno.EBUSY): "the device's line is shared and it cannot mask INTx; use MSI",
    ("VFIO_DEVICE_IOEVENTFD", errno.EEXIST): "another eventfd already does this write; close it first",
    ("VFIO_DEVICE_IOEVENTFD", errno.EINVAL): (
        "only a BAR is written to by an eventfd, in naturally aligned widths, and not where the MSI-X table is"
    ),
    ("VFIO_DEVICE_FEATURE", errno.ENOTTY): "the device or this kernel does not have the feature",
    ("VFIO_DEVICE_FEATURE", errno.EINVAL): (
        "the feature does not have this operation, or its data has the wrong length"
    ),
    ("VFIO_MIG_GET_PRECOPY_INFO", errno.EINVAL): "the device is in neither of the states PRE_COPY and PRE_COPY_P2P",
    ("VFIO_GROUP_SET_CONTAINER", errno.EINVAL): (
        "the group is in a container already, so close that container first, or a mapping of the container lies in a "
        f"range that a device of the group reserves or cannot reach, so unmap the mapping first, or {_ONE_TO_ONE}"
    ),
    ("VFIO_GROUP_SET_CONTAINER", errno.EPERM): _UNSAFE_INTERRUPTS.format(module="vfio_iommu_type1"),
    ("VFIO_GROUP_SET_CONTAINER", errno.EBUSY): (
        f"{_OTHER_DRIVER}, or user addresses of the container are invalidated: update them first"
    ),
    ("VFIO_GROUP_SET_CONTAINER", errno.EBADFD): "the descriptor is neither a VFIO container nor an iommufd",
    ("VFIO_GROUP_UNSET_CONTAINER", errno.EINVAL): "the group is in no container",
    ("VFIO_GROUP_UNSET_CONTAINER", errno.EBUSY): "a device of the group is still open; close it first",
    ("VFIO_SET_IOMMU", errno.EINVAL): (
        f"the container has no group yet, has an IOMMU type already, or does not know this one, or {_ONE_TO_ONE}"
    ),
    ("VFIO_SET_IOMMU", errno.ENODEV): "this kernel has no such IOMMU type, or the container has no group yet",
    ("VFIO_SET_IOMMU", errno.EPERM): _UNSAFE_INTERRUPTS.format(module="vfio_iommu_type1"),
    ("VFIO_CHECK_EXTENSION", errno.ENODEV): _NO_COMPATIBILITY_IOAS,
    ("VFIO_IOMMU_GET_INFO", errno.ENODEV): _NO_COMPATIBILITY_IOAS,
    ("VFIO_IOMMU_GET_INFO", errno.EINVAL): "the container has no IOMMU type yet; put a group into it first",
    ("VFIO_IOMMU_MAP_DMA", errno.EINVAL): (
        "the IOVA, the address or the length is zero, misaligned or outside the allowed ranges (see "
        "Container.iova_ranges()), or the container has no group"
    ),
    ("VFIO_IOMMU_MAP_DMA", errno.EEXIST): _TAKEN,
    ("VFIO_IOMMU_MAP_DMA", errno.ENOSPC): (
        "the container has no mapping left: unmap something, or raise dma_entry_limit "
        "(/sys/module/vfio_iommu_type1/parameters/dma_entry_limit)"
    ),
    ("VFIO_IOMMU_UNMAP_DMA", errno.EINVAL): (
        "a mapping reaches past the ends of the range, the IOVA or the length is zero or misaligned, or the container "
        "has no group; unmap whole mappings only"
    ),
    ("VFIO_IOMMU_UNMAP_DMA", errno.EBUSY): (
        "user addresses cannot be invalidated while a mediated device is in the container; close that device first"
    ),
    ("VFIO_IOMMU_UNMAP_DMA", errno.ENOENT): "a mapping reaches past the ends of the range; unmap whole mappings only",
    ("VFIO_IOMMU_DIRTY_PAGES", errno.EACCES): (
        "only a container of version 2 of the type1 interface tracks dirty pages; open it as vfio_type1v2"
    ),
    ("VFIO_IOMMU_DIRTY_PAGES", errno.ENOTTY): (
        "iommufd's compatibility layer tracks no dirty pages; open the container as vfio_type1v2, or track those of a "
        "HWPT"
    ),
    ("VFIO_IOMMU_DIRTY_PAGES", errno.EINVAL): (
        "dirty tracking is off, the range cuts a mapping, or the IOVA, the length or the page size does not fit the "
        "IOMMU's smallest page"
    ),
    ("IOMMU_VDEVICE_ALLOC", errno.EEXIST): (
        "another device of the vIOMMU has this virtual id, or the device already has a vDevice"
    ),
    ("IOMMU_VIOMMU_ALLOC", errno.EINVAL): (
        "the HWPT was not made with HwptAllocFlags.NEST_PARENT, or the IOMMU refuses the data of the type"
    ),
    ("IOMMU_VEVENTQ_ALLOC", errno.EINVAL): "the depth must be at least 1, and at most 2^19",
    ("IOMMU_VEVENTQ_ALLOC", errno.EEXIST): "the vIOMMU has a queue for events of this type",
    ("IOMMU_HW_QUEUE_ALLOC", errno.EINVAL): "the length is zero, or the IOMMU has no hardware queue with this index",
    ("IOMMU_HW_QUEUE_ALLOC", errno.EEXIST): "the vIOMMU has a hardware queue with this index",
    ("IOMMU_HW_QUEUE_ALLOC", errno.EIO): "hardware queues are made in the order of their indices, from 0",
    ("IOMMU_HWPT_SET_DIRTY_TRACKING", errno.EOPNOTSUPP): _NO_TRACKING,
    ("IOMMU_HWPT_GET_DIRTY_BITMAP", errno.EOPNOTSUPP): _NO_TRACKING,
    ("IOMMU_HWPT_GET_DIRTY_BITMAP", errno.EINVAL): (
        "the IOVA and the length must be multiples of the requested page size and of the IOMMU's smallest page; see "
        "Ioas.iova_ranges() for the alignment"
    ),
    ("IOMMU_HWPT_INVALIDATE", errno.EINVAL): (
        "the entry after those that were handled has a length, a type or a content that the IOMMU does not know"
    ),
    ("write(FaultQueue)", errno.EINVAL): "no fault with this cookie waits for an answer",
    ("mmap", errno.ENXIO): "the vIOMMU lends no registers at this offset with this length; its data has both",
    ("IOMMU_TEST_CMD ACCESS_RW", errno.EPERM): _NO_ACCESS,
    ("IOMMU_TEST_CMD ACCESS_PAGES", errno.EPERM): _NO_ACCESS,
    ("IOMMU_VFIO_IOAS", errno.ENODEV): _NO_COMPATIBILITY_IOAS,
}


def meaning_of(ioctl: str, number: int) -> str:
    """Return the meaning of the errno *number* for this ioctl, or else its general meaning; empty if it has none."""
    return _MEANINGS.get((ioctl, number)) or _GENERAL.get(number, "")
