# SPDX-License-Identifier: MIT
"""A run on three machines behind a VT-d: two kernels, with and without snoop control."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py.fleet.tags import tag_value
from iommufd_py.lab.machine import TEST_DEVICES
from tests.fleet.guests import lab_of_guests, report_of
from tests.fleet.lab import Lab
from tests.waiting import patience

PLACES = {
    "patched": {"kernel": "patched", "machine": "vtd"},
    "coherent": {"kernel": "patched", "machine": "vtd-coherent"},
    "stock": {"kernel": "stock", "machine": "vtd"},
}
PLAN = """
name = "coherencies"
lost_after = "1500s"
[[runners]]
filter = { kind = "device" }
count = 3
[[steps]]
run = "validate"
options = ["--device", "{bdf}", "--bind", "--only", "map-*"]
"""


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    places = {name: {"kind": "device", "bdf": tag_value(TEST_DEVICES[0]), **tags} for name, tags in PLACES.items()}
    with lab_of_guests(tmp_path, monkeypatch, places) as found:
        yield found


def test_each_machine_judges_the_rules_that_it_shows(guests: Lab, tmp_path: Path) -> None:
    """Only non-coherent domains show flushes. A coherent machine never counts as one that keeps the rules."""
    (tmp_path / "plan.toml").write_text(PLAN)
    output = tmp_path / "out"
    process = guests.fleet(tmp_path / "plan.toml", output)
    told = process.communicate(timeout=patience(1500))[1]
    assert guests.holders() == {}, "everything was given back"
    assert process.returncode == 0, told
    judged = report_of(output, "--json")
    assert judged.returncode == 1, judged.stderr
    document = json.loads(judged.stdout)
    outcomes = {
        runner["name"]: {check["outcome"] for check in runner["checks"] if check["name"].startswith("rule ")}
        for runner in document["runners"]
    }
    assert outcomes == {"patched": {"kept"}, "coherent": {"not observed"}, "stock": {"violated"}}, told
    violated = {line["name"]: line["runners"] for line in document["lines"] if line["outcome"] == "violated"}
    assert violated == {name: ["stock"] for name in ("rule 1", "rule 2", "rule 3", "validate")}
