# SPDX-License-Identifier: MIT
"""The exit statuses of all commands. 0 is good, and click exits with 2 for wrong usage."""

FAILED = 1
NOT_OBSERVED = 4
"""The command was skipped, or this machine cannot show its result."""
INTERRUPTED = 130
