# SPDX-License-Identifier: MIT
"""List the devices: "free" if VFIO could take it now, else the reason against it.

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
            verdict = (
                f"take {', '.join(sorted(others))} too: same group" if others else "free"
            )
        except DeviceError as error:
            verdict = str(error)
    print(f"{device.bdf} {device.ids} {device.driver or '-':10} {verdict}")
