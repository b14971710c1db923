# SPDX-License-Identifier: MIT
"""Generated scenarios: combinations of dimensions and random walks, with the flushes that a model predicts."""
