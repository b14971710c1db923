# SPDX-License-Identifier: MIT
"""Time DMA map and unmap, and write the results."""
