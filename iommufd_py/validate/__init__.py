# SPDX-License-Identifier: MIT
"""Checks the running kernel against the three rules for flushing DMA pages in non-coherent domains."""
