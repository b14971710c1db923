# SPDX-License-Identifier: MIT
"""List the devices that could be given to userspace now, with what stands in the way of the others.

sudo python docs/examples/find_devices.py
"""

from iommufd_py import DeviceError, pci

for device in pci.list_devices():
    if device.iommu_group is None:
        verdict = "no IOMMU group"
    else:
        others = set(pci.iommu_group(device.iommu_group).in_the_way) - {device.bdf}
        try:
            pci.check_bind(device.bdf)  # changes nothing
            verdict = f"its group needs {', '.join(sorted(others))} too" if others else "free"
        except DeviceError as error:
            verdict = str(error)
    print(f"{device.bdf} {device.ids} {device.driver or '-':10} {verdict}")
