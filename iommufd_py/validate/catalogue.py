# SPDX-License-Identifier: MIT
"""All scenarios, and runs of some of them."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from iommufd_py.validate.runner import RuleOutcome, ScenarioResult
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.scenarios import SCENARIOS
from iommufd_py.validate.space.of_container import CONTAINER_SPACE
from iommufd_py.validate.space.of_ioas import IOAS_SPACE

SPACES = (IOAS_SPACE, CONTAINER_SPACE)
"""The groups of scenarios that combine dimensions."""


def all_scenarios(*, full: bool) -> tuple[Scenario, ...]:
    """Return the named scenarios, and scenarios with all pairs of values (with *full*: all triples) of each space."""
    return (*SCENARIOS, *(one for space in SPACES for one in space.scenarios(full=full)))


def matching_scenarios(pattern: str, *, full: bool = False) -> tuple[Scenario, ...]:
    """Return the scenarios whose name matches. The name of any possible combination matches too."""
    found = tuple(one for one in all_scenarios(full=full) if fnmatchcase(one.name, pattern))
    return found or tuple(one for space in SPACES if (one := space.named(pattern)) is not None)


def run_scenarios(
    chosen: Sequence[Scenario], run: Callable[[Scenario], ScenarioResult], *, full: bool
) -> list[ScenarioResult]:
    """Run scenarios. Where a whole space was chosen and some values are impossible here, combine the others again."""
    results = [run(one) for one in chosen]
    for space in SPACES:
        if not set(space.scenarios(full=full)) <= set(chosen):
            continue
        while more := space.substitutes(
            {one.scenario.name: one.outcome is not RuleOutcome.NOT_OBSERVED for one in results}, full=full
        ):
            results += map(run, more)
    return results
