# SPDX-License-Identifier: MIT
"""The results that `iommufd bench patch` joins."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from iommufd_py.cli.bench import boots, patch

from iommufd_py.base.coherency import Coherency
from iommufd_py.results import document
from tests.unit.results.bench_results import result, scaled


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


@pytest.mark.slow
@pytest.mark.parametrize("precision", [0.3, None])
def test_the_page_has_the_finding_of_the_text(tmp_path: Path, precision: float | None) -> None:
    """The page judged each interval by 5 %, also if the text did so by --precision, and had times beside counts."""
    measured = [scaled(0.97, 1.0, 1.03), replace(scaled(0.97, 1.0, 1.03), name="other")]
    patch._report(measured, tmp_path / "native", precision, as_json=False)
    text = " ".join((tmp_path / "native.txt").read_text().split())
    page = (tmp_path / "native.html").read_text()
    shown = re.findall("<p>(.*)</p>", page.partition("<h2>Finding</h2>")[2].partition("<h2>")[0])
    assert len(shown) == 3
    for sentence in shown:
        assert unescape(sentence) in text
