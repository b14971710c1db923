# SPDX-License-Identifier: MIT
"""Replay a bug report from Python, step by step, with the errno that each step must give.

The file beside this one is the report; 'iommufd map --script' does the same.

    iommufd lab run --native -- python docs/examples/replay.py docs/examples/report.toml
"""

import sys
from pathlib import Path

from iommufd_py.experiment.experiment import Experiment, parse_script

from iommufd_py import Iommufd, MockDevice

steps = parse_script(Path(sys.argv[1]).read_text())
with Iommufd() as iommufd:
    experiment = Experiment(iommufd, MockDevice(iommufd))
    outcomes = [experiment.run(step) for step in steps]
    for outcome in outcomes:
        print(outcome.step, outcome.error or "ok", "" if outcome.as_expected else "NOT AS EXPECTED")
    experiment.close()
sys.exit(not all(outcome.as_expected for outcome in outcomes))
