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
# The result of the command by its exit status. Status 0 without a test case is an error.
WHOLE = {"0": "error", "1": "fail", "4": "skip"}


def results(junit: str, status: str) -> "list[dict[str, Any]]":
    """Return a result for each test case, and one for the command if its exit status is worse than every test case."""
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
    whole = WHOLE.get(status, "error")
    seen = {result["result"] for result in found}
    if not found or (status != "0" and not seen & {whole, "fail", "error"}):
        found.append({"name": "/validate", "result": whole, "log": ["validate.log"]})
    return found


if __name__ == "__main__":
    source, target, exit_status = sys.argv[1:]
    Path(target).write_text(json.dumps(results(Path(source).read_text(), exit_status), indent=1) + "\n")
