# SPDX-License-Identifier: MIT
"""Validate a wrong kernel twice in one guest. The kernel prints each warning once, but both runs must find it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py.lab import cache, kernel, native
from iommufd_py.lab.cache import Kernel
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.machine import NativeMachine
from iommufd_py.lab.progress import Silent
from tests.programs import IOMMUFD
from tests.waiting import patience

MUTANT = Path(__file__).parent / "mutants/rule1-flush-after-map.patch"


@pytest.fixture
def wrong_kernel() -> Iterator[Kernel]:
    made = kernel.build_changed(MUTANT, Silent(), configuration=Configuration("um"))
    yield made
    cache.prune(lambda other: other == made, keep=0)


def test_a_warning_that_is_printed_once_counts_in_each_run(
    wrong_kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts of this kernel agree, so only the WARN_ONCE() of its own check of the order finds the mistake."""
    monkeypatch.chdir(tmp_path)  # The guest shares it.
    validate = f"{IOMMUFD} validate --only map-non-coherent --json"
    native.run_natively(
        wrong_kernel.image,
        ["sh", "-c", f"{validate} > first; {validate} > second"],
        NativeMachine(options=("iommufd.test_flush_order=Y",)),
        timeout=patience(120),
    )
    outcomes = [json.loads((tmp_path / name).read_text())["outcome"] for name in ("first", "second")]
    assert outcomes == ["kernel report"] * 2
