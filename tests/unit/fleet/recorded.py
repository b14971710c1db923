# SPDX-License-Identifier: MIT
"""Write result directories like those of `iommufd fleet run`, for tests of the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iommufd_py.fleet.record import LOG, KernelFacts, RunnerRecord, RunnerState, StepRecord, StepState
from iommufd_py.fleet.verdict import CombinedCheck, Report
from iommufd_py.results import document
from iommufd_py.results.model import BenchResult

KEPT = {"1": "kept", "2": "kept", "3": "kept"}


def step(kernel: str, kind: str, state: StepState = StepState.ENDED, status: int | None = 0, **more: Any) -> StepRecord:
    return StepRecord(kernel, more.get("repetition", 1), more.get("name", kind), kind, state, status, 1.5)


def validation(rules: Mapping[str, str] = KEPT, outcome: str = "kept", **more: Any) -> dict[str, Any]:
    """Return a document of `iommufd validate --json`."""
    scenarios = [
        {
            "name": f"map-{number}",
            "rules": [int(number)],
            "outcome": state,
            "reason": None,
            "duration_s": 0.1,
            "violations": [{"rule": int(number)}] if state == "violated" else [],
            "kernel_reports": [],
        }
        for number, state in rules.items()
    ]
    return {
        "schema": "iommufd-validate/1",
        "outcome": outcome,
        "device": "mock",
        "kernel": "7.3.0",
        "flush_symbols": ["arch_flush_cache_phys"],
        "not_observed": None,
        "rule_set": "seed",
        "doubts": [],
        "counts_suffice": False,
        "rules": dict(rules),
        "scenarios": scenarios,
    } | more


def write_machine(
    directory: Path,
    name: str,
    steps: Sequence[tuple[StepRecord, Any]] = (),
    *,
    state: RunnerState = RunnerState.DONE,
    version: str = "1.0",
    log: str = "",
    **more: Any,
) -> Path:
    """Write the folder of a machine: its record, and the result of each step (JSON, JUnit, or a benchmark)."""
    folder = directory / name
    folder.mkdir(parents=True)
    kernels = dict.fromkeys(one.kernel for one, _ in steps)
    facts = tuple(KernelFacts(one, f"7.3.0-{one}", version) for one in kernels)
    started = "2026-11-25T22:00:00+00:00"
    RunnerRecord(
        name, state, tags={"iommu": "vtd"}, started=started, kernels=facts, steps=tuple(one for one, _ in steps), **more
    ).save(folder)
    for one, result in steps:
        here = folder / one.folder
        here.mkdir()
        (here / LOG).write_text(log)
        if isinstance(result, BenchResult):
            document.save(result, here / "result.json")
        elif isinstance(result, str):
            (here / "result.xml").write_text(result)
        elif result is not None:
            (here / "result.json").write_text(json.dumps(result))
    return folder


GOOD = (step("installed", "validate"), validation())
LOST = (step("installed", "validate", StepState.LOST, None), None)


def line_of(report: Report, name: str, kernel: str = "installed") -> CombinedCheck:
    """Return the line of a report for a check on a kernel."""
    return next(one for one in report.lines if (one.kernel, one.name) == (kernel, name))
