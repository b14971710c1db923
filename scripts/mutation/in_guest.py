# SPDX-License-Identifier: MIT
"""Judge mechanical mutants in a guest: select one after the other, and print a JSON line with the scenario that finds
it.

Usage: in_guest.py SCENARIOS DEVICE NUMBER...
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from iommufd_py.host.kmsg import KernelLog
from iommufd_py.lab.mutation import PARAMETER
from iommufd_py.validate.catalogue import matching_scenarios
from iommufd_py.validate.driver import Driver, MockDriver, VfioDriver
from iommufd_py.validate.observer import Observer
from iommufd_py.validate.runner import WORST_FIRST, run_scenario


def judge_in_guest(numbers: Sequence[int], only: str, device: str) -> None:
    """Print two lines for each mutant: its number before the first scenario, and its result."""
    parameter = Path(PARAMETER)
    scenarios = list(matching_scenarios(only))
    driver: Driver = MockDriver() if device == "mock" else VfioDriver(device)
    with Observer(driver) as observer, KernelLog() as log:
        for number in numbers:
            print(json.dumps({"number": number}), flush=True)
            by, found = "", ""
            for position, scenario in enumerate(scenarios):
                parameter.write_text(str(number))
                try:
                    result = run_scenario(scenario, driver, observer, log)
                finally:
                    parameter.write_text("0")
                if result.outcome in WORST_FIRST:
                    first = result.violations[0] if result.violations else result.reason
                    by, found = str(result.outcome), f"{scenario.name}: {result.outcome}: {first}"
                    # The scenario that finds one mutant often finds the next one too, so it comes first.
                    scenarios.insert(0, scenarios.pop(position))
                    break
            print(json.dumps({"number": number, "by": by, "found": found}), flush=True)


if __name__ == "__main__":
    judge_in_guest([int(word) for word in sys.argv[3:]], sys.argv[1], sys.argv[2])
