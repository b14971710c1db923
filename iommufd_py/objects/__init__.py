# SPDX-License-Identifier: MIT
"""The kernel objects of /dev/iommu: iommufd, IOAS, HWPT, mapping, fault queue, vIOMMU, dirty tracking.

A constructor opens a file, a device or memory: ``Iommufd()``, ``VfioDevice(iommufd, bdf)``, ``DmaBuffer(length)``. A
method of an object makes everything that the kernel makes on that object: ``iommufd.alloc_ioas()``,
``device.alloc_hwpt(ioas)``, ``ioas.map(buffer)``, ``hwpt.track_dirty()``, ``device.enable_irqs(index)``. Only the mock
driver's own things are constructed on an object: ``MockDevice(iommufd)``, ``MockAccess(ioas)``.
"""
