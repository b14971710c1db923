# SPDX-License-Identifier: MIT
"""Run on many machines that labgrid lends, and give one verdict."""
