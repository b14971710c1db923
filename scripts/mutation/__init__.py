# SPDX-License-Identifier: MIT
"""The parts of scripts/mutants and scripts/mutate, which test whether `iommufd validate` finds mistakes."""
