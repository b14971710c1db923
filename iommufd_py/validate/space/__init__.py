# SPDX-License-Identifier: MIT
"""Scenarios that nobody wrote: combinations of dimensions and random walks, with the flushes that a model expects."""
