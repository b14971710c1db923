# SPDX-License-Identifier: MIT
"""The address of the coordinator."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py.fleet.lending import LendingError, coordinator_address

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("text", "address"),
    [("lab", "lab:20408"), ("lab:1", "lab:1"), ("10.0.0.1:5", "10.0.0.1:5"), ("[::1]:2", "[::1]:2")],
)
def test_an_address_gets_the_port_of_labgrid(text: str, address: str) -> None:
    assert coordinator_address(text) == address
    assert coordinator_address(address) == address


@pytest.mark.parametrize(
    "text",
    ["", " ", ":1", "lab:port", "lab:99999", "::1", "\x1b[31m", "lab\n", "two labs", "-x", "http://lab:1", "\udcff"],
)
def test_a_text_that_is_no_address_is_refused_before_a_worker_starts(text: str) -> None:
    with pytest.raises(LendingError, match=re.escape(f"{text!r} is not the address of a coordinator: write HOST or")):
        coordinator_address(text)


def test_an_empty_option_is_not_the_default(cli: Cli, tmp_path: Path) -> None:
    """A script can pass a variable without a value. The run would ask for machines of this host instead."""
    plan = tmp_path / "plan.toml"
    plan.write_text('name = "x"\nrunners = [{filter = {iommu = "vtd"}}]\nsteps = [{run = "validate"}]\n')
    done = cli("fleet", "run", str(plan), "--output", str(tmp_path / "out"), "--coordinator", "")
    assert done.returncode == 2
    assert "'' is not the address of a coordinator" in done.stderr
    assert not (tmp_path / "out").exists()
