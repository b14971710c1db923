# SPDX-License-Identifier: MIT
"""Cases that compare what a device and the CPU read where DMA does not snoop the CPU caches."""
