# SPDX-License-Identifier: MIT
"""Made-up results, for tests of the code that reads results."""

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from iommufd_py import CoherencyEvidence, FlushCount
from iommufd_py.base.environment import Environment
from iommufd_py.results import model

ENVIRONMENT = Environment(
    kernel_release="7.3.0",
    kernel_variant="stock",
    platform="bare metal",
    machine="",
    cpu="CPU",
    cpus=2,
    command_line="quiet",
    noncoherent_knob=None,
    config={"KASAN": "n", "HZ": "1000"},
    microcode="0x2b",
    thp="madvise",
    governor="performance",
    turbo=False,
    numa_nodes=1,
)
POINT = model.Point(model.Workload.MAP, 8192)


def process_run(
    map_ns: Sequence[int] = (1000, 3000, 2000),
    unmap_ns: Sequence[int] = (500, 400, 600),
    *,
    boot: str = "boot",
    steady: bool = True,
    pinned: int = 8192,
    physical_runs: int = 2,
    switched: tuple[int, ...] = (),
    flushes: tuple[FlushCount | None, FlushCount | None] = (None, None),
    **more: Any,
) -> model.Run:
    operations = {
        "map": model.Samples(array("Q", map_ns), switched, (), flushes[0]),
        "unmap": model.Samples(array("Q", unmap_ns), (), (), flushes[1]),
    }
    return model.Run(boot, 20, steady, pinned, {1: physical_runs}, operations, **more)


def result(
    *runs: model.Run,
    dma_cc: bool = False,
    point: model.Point = POINT,
    flush_ns: Sequence[int] = (400,),
    **environment: object,
) -> model.BenchResult:
    return model.BenchResult(
        tool_version="0",
        command=("iommufd", "bench", "run"),
        started="2026-01-01T00:00:00+00:00",
        environment=replace(ENVIRONMENT, **environment),
        target=model.Target("0000:00:10.0", "INTEL_VTD", 0xD2, CoherencyEvidence(dma_cc, None)),
        floor=model.Floor(array("Q", (20, 25)), array("Q", (100, 110, 120))),
        rows=(model.Row(point, 1 << 32, _observed(runs or (process_run(), process_run(), process_run()), flush_ns)),),
    )


def _observed(runs: Sequence[model.Run], flush_ns: Sequence[int]) -> tuple[model.Run, ...]:
    """Add leaves to the first run, and times of flushing from user space to all runs, unless they have their own."""
    first, *others = (
        one if len(one.user_flush_ns) else replace(one, user_flush_ns=array("Q", flush_ns)) for one in runs
    )
    return (first if first.leaves else replace(first, leaves={4096: 2}), *others)


def scaled(*factors: float, boots: Sequence[str] = (), **options: object) -> model.BenchResult:
    names = boots or ["boot"] * len(factors)
    runs = (
        process_run([round(2000 * f)] * 3, [round(500 * f)] * 3, boot=b) for f, b in zip(factors, names, strict=True)
    )
    return result(*runs, **options)


def boots_of(source: random.Random, factors: Sequence[float], *, boots: int, spread: float) -> model.BenchResult:
    """Make a table with a row for each of *factors*, one operation each, and a bias for each boot."""
    rows = []
    for number, factor in enumerate(factors, 1):
        times = [round(1e6 * factor * math.exp(source.gauss(0, spread))) for _ in range(boots)]
        runs = []
        for boot, ns in enumerate(times):
            one = process_run([ns] * 3, [1] * 3, boot=str(boot))
            runs.append(replace(one, operations={"map": one.operations["map"]}))
        rows.append(replace(result().rows[0], point=replace(POINT, size_bytes=4096 * number), runs=tuple(runs)))
    return replace(result(), rows=tuple(rows))
