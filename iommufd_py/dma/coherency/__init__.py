# SPDX-License-Identifier: MIT
"""Cases that compare the bytes that a device and the CPU read on a machine whose DMA does not snoop the CPU caches."""
