# SPDX-License-Identifier: MIT
"""The objects of /dev/vfio: devices, regions, interrupts, groups and containers."""
