# SPDX-License-Identifier: MIT
"""The three rules for flushing DMA pages in non-coherent domains, held against the running kernel."""
