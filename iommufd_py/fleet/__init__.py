# SPDX-License-Identifier: MIT
"""Run a plan on many machines that labgrid lends, and judge all results together."""
