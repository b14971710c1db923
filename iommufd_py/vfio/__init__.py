# SPDX-License-Identifier: MIT
"""What lives in /dev/vfio: devices, regions, interrupts, groups and containers."""
