# SPDX-License-Identifier: MIT
"""The scenarios, by theme."""

from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.scenarios import attach, container, failure, leave, mapping, memory, shared

__all__ = ["SCENARIOS"]

SCENARIOS: tuple[Scenario, ...] = tuple(
    one
    for theme in (mapping, attach, shared, leave, memory, failure, container)
    for one in vars(theme).values()
    if isinstance(one, Scenario)
)
"""All named scenarios, in the order in which they run."""
