# SPDX-License-Identifier: MIT
"""Errors, units, addresses and values. This room imports nothing from the rest of the package."""
