# SPDX-License-Identifier: MIT
"""The report of a large fleet: its time and its memory."""

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iommufd_py.fleet.record import RunnerState
from iommufd_py.results.model import BenchResult
from tests.unit.fleet.recorded import KEPT, step, validation, write_machine
from tests.unit.results.bench_results import POINT, process_run, result
from tests.waiting import patience

RUNNERS = 500
# Required on an idle machine.
SECONDS = 10
MEMORY_BYTES = 500 << 20
SCENARIOS = 150


def bench(scale: float, seed: int) -> BenchResult:
    noise = random.Random(seed)

    def samples() -> list[int]:
        return [round(2000 * scale * noise.uniform(0.95, 1.05)) for _ in range(30)]

    rows = []
    for size in (4096, 65536, 2 << 20):
        point = type(POINT)(POINT.workload, size)
        rows.append(result(*(process_run(samples(), samples(), boot=f"{seed}-{at}") for at in range(5)), point=point))
    return type(rows[0])(
        **{name: getattr(rows[0], name) for name in rows[0].__slots__} | {"rows": tuple(one.rows[0] for one in rows)}
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on machines of ten kinds. One machine breaks a rule, one is lost."""
    directory = tmp_path_factory.mktemp("many")
    document = validation()
    document["scenarios"] = document["scenarios"] * (SCENARIOS // 3)
    pairs = [(bench(1, 2 * seed), bench(1.5 + seed / 100, 2 * seed + 1)) for seed in range(10)]
    models = []
    for number, (before, after) in enumerate(pairs):
        steps = [
            (step("stock", "validate"), document),
            (step("stock", "bench"), before),
            (step("patched", "validate"), document),
            (step("patched", "bench"), after),
        ]
        models.append(write_machine(directory / "models", f"kind{number}", steps, baseline="stock"))
    for number in range(RUNNERS - 2):
        target = directory / "run" / f"r{number:03}"
        model = models[number % len(models)]
        shutil.copytree(model, target, copy_function=os.link)
        record = target / "runner.json"
        record.unlink()
        record.write_text((model / "runner.json").read_text().replace(f'"{model.name}"', f'"{target.name}"'))
    violated = validation(KEPT | {"2": "violated"}, "violated")
    write_machine(directory / "run", "wrong", [(step("patched", "validate", status=1), violated)], baseline="stock")
    write_machine(directory / "run", "dead", state=RunnerState.LOST, reason="gone", baseline="stock")
    return directory / "run"


@pytest.mark.slow
def test_five_hundred_machines_take_seconds(many: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    program = "import resource, sys; from iommufd_py.cli.start import main\n"
    program += "try: main()\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program, "fleet", "report", str(many)],
        capture_output=True,
        text=True,
        check=False,
        timeout=patience(120),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 1, done.stderr
    assert "wrong" in done.stdout
    # CPU time, with patience: a busy neighbour of the CPU doubles it.
    assert used < patience(SECONDS), f"{used:.1f} s of CPU, {time.monotonic() - begun:.1f} s in all"
    assert int(done.stderr.splitlines()[-1]) << 10 < MEMORY_BYTES
    print(f"{used:.1f} s of CPU, {int(done.stderr.splitlines()[-1]) >> 10} MiB")
