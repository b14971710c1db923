# SPDX-License-Identifier: MIT
"""The users of a PCI function: each one is a reason not to take the function from its driver."""
