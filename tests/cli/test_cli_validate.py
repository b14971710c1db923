# SPDX-License-Identifier: MIT
"""`iommufd validate` without a kernel to judge: --list, --explain, and options that contradict each other."""

import json
import subprocess
from collections.abc import Callable

import pytest

from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.validate.scenarios import SCENARIOS

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_list(cli: Cli) -> None:
    document = json.loads(cli("validate", "--list", "--json").stdout)
    assert [one["name"] for one in document["scenarios"]][: len(SCENARIOS)] == [one.name for one in SCENARIOS]
    lines = cli("validate", "--list", "--only", "map-*").stdout.splitlines()
    assert lines[0].split() == ["scenario", "rules", "what"]
    assert len(lines) > 10 and all(line.startswith("map-") for line in lines[1:])


def test_explain(cli: Cli) -> None:
    text = cli("validate", "--explain", "shared-parts-attached-one-by-one").stdout
    assert "rule 2: " in text and "iopt_area_fill_domain()" in text and "last paragraph" in text


@pytest.mark.parametrize("option", ["--only", "--explain"])
def test_no_such_scenario(cli: Cli, option: str) -> None:
    answer = cli("validate", option, "nothing-*")
    assert answer.returncode == 2 and "--list" in answer.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "--ktap"], "--json and --ktap"),
        (["--junit", "--ktap"], "--ktap and --junit"),
        (["--list", "--ktap"], "--list and --ktap"),
        (["--list", "--device", "mock"], "--list and --device"),
        (["--explain", "map-coherent", "--json"], "--explain and --json"),
        (["--explain", "map-coherent", "--list"], "--explain and --list"),
        (["--brief", "--history"], "--brief and --history"),
        (["--json", "--brief"], "--json and --brief"),
        (["--random", "9", "--only", "map-*"], "--random and --only"),
        (["--seed", "9"], "--seed needs --random"),
        (["--second-device", "0000:00:11.0"], "--second-device needs another PCI device"),
        (["--device", "00:11.0", "--second-device", "0000:00:11.0"], "--second-device needs another PCI device"),
        (["--list", "--second-device", "0000:00:11.0"], "--list and --second-device cannot be used together"),
        (["--bind"], "--bind needs a PCI device"),
        (["--explain", ""], "no scenario matches ''"),
        (["--only", ""], "no scenario matches ''"),
        (["--random", "0"], "--random"),
        (["--rules", "own"], "--rules"),
    ],
)
def test_contradictions_are_wrong_usage(cli: Cli, options: list[str], message: str) -> None:
    answer = cli("validate", *options)
    assert (answer.returncode, answer.stdout) == (2, "") and message in answer.stderr


@pytest.mark.skipif(DEV_IOMMU.exists(), reason="this kernel has iommufd")
def test_a_kernel_without_iommufd_is_not_judged(cli: Cli) -> None:
    answer = cli("validate", "--json")
    assert answer.returncode == 4 and not answer.stdout
    assert "no /dev/iommu" in json.loads(answer.stderr)["skipped"]["message"]
