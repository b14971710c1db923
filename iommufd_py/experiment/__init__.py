# SPDX-License-Identifier: MIT
"""One map, step by step, with the ioctls that each step issues and the facts about its result."""
