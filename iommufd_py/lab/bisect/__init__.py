# SPDX-License-Identifier: MIT
"""Finds the commit of a kernel tree that broke a flush rule, a scenario, a test or a timing."""
