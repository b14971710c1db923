# SPDX-License-Identifier: MIT
"""A sequence of operations on an iommufd, as data."""
