# SPDX-License-Identifier: MIT
"""Turn a JUnit report into tmt's custom results: python3 results.py JUNIT RESULTS EXIT_STATUS.

It runs on the tested machine, so it needs only the standard library.
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

KINDS = {"failure": "fail", "error": "error", "skipped": "skip"}
# The result by exit status, for a command that left no JUnit report.
WHOLE = {"0": "error", "1": "fail", "4": "skip"}


def results(junit: str, status: str) -> "list[dict[str, Any]]":
    """Return a result for each test case, or a single one if there are no test cases."""
    try:
        cases = list(ElementTree.fromstring(junit).iter("testcase"))
    except ElementTree.ParseError:
        cases = []
    found: list[dict[str, Any]] = []
    for case in cases:
        kind = next((child for child in case if child.tag in KINDS), None)
        result: dict[str, Any] = {
            "name": "/" + re.sub(r"[^A-Za-z0-9_.-]+", "_", case.get("name", "")),
            "result": "pass" if kind is None else KINDS[kind.tag],
        }
        if kind is not None and kind.get("message"):
            result["note"] = [kind.get("message")]
        found.append(result)
    if not found:
        found = [{"name": "/validate", "result": WHOLE.get(status, "error"), "log": ["validate.log"]}]
    return found


if __name__ == "__main__":
    source, target, exit_status = sys.argv[1:]
    Path(target).write_text(json.dumps(results(Path(source).read_text(), exit_status), indent=1) + "\n")
