# SPDX-License-Identifier: MIT
"""The results that `iommufd bench patch` joins."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from iommufd_py.cli.bench import boots

from iommufd_py.base.coherency import Coherency
from iommufd_py.results import document
from tests.unit.results.bench_results import result


def test_the_command_of_joined_boots_repeats_all_of_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was the command of the first boot, which waits for the other guests of its round."""
    inner = replace(result(), command=("iommufd", "bench", "run", "--turn", "results/turns-1", "0", "3"))

    def write_result(arguments: Sequence[str]) -> None:
        document.save(inner, Path(arguments[-1]))

    monkeypatch.setattr(boots, "run_iommufd", write_result)
    monkeypatch.setattr(
        sys, "argv", ["/usr/bin/iommufd", "bench", "patch", "--vf-token", "secret", "--", "--size", "2M"]
    )
    variant = boots.Variant("stock", Coherency.NON_COHERENT, "stock")
    series = boots.RoundsOfBoots([variant], lambda one: ["lab", "run"], tmp_path, "native", (), together=False)
    (measured,) = series.measure(boots.Effort(rounds=1, precision=None, seconds=60))
    assert measured.repeat_command == "iommufd bench patch --vf-token ... -- --size 2M"
    assert document.load_result(tmp_path / "native-stock.json").repeat_command == measured.repeat_command
