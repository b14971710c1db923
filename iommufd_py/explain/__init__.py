# SPDX-License-Identifier: MIT
"""Tells where the time of another process's maps goes, and what its user can do about it."""
