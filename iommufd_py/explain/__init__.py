# SPDX-License-Identifier: MIT
"""Shows where another process spends the time of its maps, and advises its user."""
