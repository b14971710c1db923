# SPDX-License-Identifier: MIT
"""Timing DMA map and unmap: what is run, what came out, and what may be said of it."""
