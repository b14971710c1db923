# SPDX-License-Identifier: MIT
"""What the tests share that need no kernel."""

from hypothesis import HealthCheck, settings

# How long one example takes, and how fast examples are made, says how busy this machine is.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
