# SPDX-License-Identifier: MIT
"""The ground floor: errors, units, addresses and values that know nothing of this package."""
