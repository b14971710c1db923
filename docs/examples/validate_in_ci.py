# SPDX-License-Identifier: MIT
"""Validate the running kernel in a CI job: JUnit XML in a file, one line, an exit status.

iommufd lab run --kernel patched -- python docs/examples/validate_in_ci.py rules.xml
"""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

VERDICTS = {
    0: "every rule is kept",
    1: "a rule is violated",
    4: "the rules cannot be observed on this kernel",
}

command = ["iommufd", "validate", "--junit"]
done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
if done.returncode not in VERDICTS:
    sys.exit(done.returncode)
Path(sys.argv[1]).write_text(done.stdout)
cases = list(ElementTree.fromstring(done.stdout).iter("testcase"))
failed = [case.get("name") for case in cases if case.find("failure") is not None]
print(f"{len(cases)} scenarios, {len(failed)} violate a rule: {VERDICTS[done.returncode]}")
sys.exit(done.returncode)
