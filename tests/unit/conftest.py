# SPDX-License-Identifier: MIT
"""Settings for all tests that need no kernel."""

from hypothesis import HealthCheck, settings

# No deadlines and no health checks of speed: they depend on the load of this machine.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
