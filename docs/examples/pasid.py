# SPDX-License-Identifier: MIT
"""Give one PASID of a device an address space of its own.

iommufd lab run --native -- python docs/examples/pasid.py
"""

from iommufd_py import HwptAllocFlags, Iommufd, MockDevice, MockDeviceFlags

PASID = 100

with Iommufd() as iommufd:
    device = MockDevice(iommufd, MockDeviceFlags.PASID)
    print(f"the device has {device.hw_info().max_pasid_log2} bits of PASID")
    ioas, private = iommufd.alloc_ioas(), iommufd.alloc_ioas()
    device.attach(device.alloc_hwpt(ioas, flags=HwptAllocFlags.PASID))
    hwpt = device.alloc_hwpt(private, flags=HwptAllocFlags.PASID)
    attachment = device.attach(hwpt, PASID)
    device.check_pasid(PASID, hwpt.id)  # the kernel confirms it
    print(f"PASID {attachment.pasid} uses HWPT {attachment.hwpt_id}")
    device.detach(PASID)
    device.check_pasid(PASID, 0)
    print("attached:", *device.attachments)
