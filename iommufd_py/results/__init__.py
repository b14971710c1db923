# SPDX-License-Identifier: MIT
"""Benchmark results: read, compare, print and plot them. Pure: no extension, no device, no root."""
