# SPDX-License-Identifier: MIT
"""Map memory once, step by step, and report the ioctls and the results of each step."""
