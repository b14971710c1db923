# SPDX-License-Identifier: MIT
"""Validate a wrong kernel twice in one guest. The kernel prints each warning once, but both runs must find it."""

import json
from collections.abc import Iterator
from io import BytesIO
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


def test_a_warning_that_is_printed_once_counts_in_each_run(wrong_kernel: Kernel) -> None:
    """The counts of this kernel agree, so only the WARN_ONCE() of its own check of the order finds the mistake."""
    validate = f"{IOMMUFD} validate --only map-non-coherent --json"
    output = BytesIO()
    native.run_natively(
        wrong_kernel.image,
        ["sh", "-c", f"{validate}; {validate}"],
        NativeMachine(options=("iommufd.test_flush_order=Y",)),
        stdout=output,
        timeout=patience(120),
    )
    text, decoder, outcomes = output.getvalue().decode(), json.JSONDecoder(), []
    while text.strip():
        document, end = decoder.raw_decode(text.lstrip())
        outcomes.append(document["outcome"])
        text = text.lstrip()[end:]
    assert outcomes == ["kernel report"] * 2
