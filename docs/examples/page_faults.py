# SPDX-License-Identifier: MIT
"""Answer the IO page faults of a device. User-Mode Linux has none: use the virtual machine.

iommufd lab run -- python docs/examples/page_faults.py
"""

from iommufd_py import (
    FaultQueue,
    HwptAllocFlags,
    Iommufd,
    MockDevice,
    PageFaultPermission,
    PageResponse,
)
from iommufd_py.mock import hwpt_data

with Iommufd() as iommufd:
    device, ioas, queue = MockDevice(iommufd), iommufd.alloc_ioas(), FaultQueue(iommufd)
    parent = device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    device.attach(device.alloc_nested(parent, hwpt_data(), fault_queue=queue))

    # A real device needs no trigger.
    device.trigger_fault(0xDEAD_B000, PageFaultPermission.WRITE)
    for fault in queue.read(timeout=5):
        wish = f"{fault.permission.name} at {fault.address:#x}"
        print(f"device {fault.dev_id} wants to {wish}")
        queue.respond(fault, PageResponse.INVALID)
    print("pending:", len(queue.read(timeout=0)))
