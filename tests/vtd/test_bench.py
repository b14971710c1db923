# SPDX-License-Identifier: MIT
"""The benchmark on a real device."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from iommufd_py import Coherency, CoherencyError, Iommufd, VfioDevice, flush_count, pci
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.bench import runner, trace
from iommufd_py.bench.workloads import set_up
from iommufd_py.lab.machine import NVME_DEVICE
from iommufd_py.results import document, model
from iommufd_py.results.model import Point, Workload
from iommufd_py.results.schema import read_schema
from tests.conftest import IN_LAB
from tests.programs import IOMMUFD
from tests.waiting import DEFAULT_SIGNALS, patience, wait_until

SIZES = (4 << 10, 2 << 20)
MAPS = tuple(Point(Workload.MAP, size) for size in SIZES)


def test_run_keeps_every_sample_and_the_evidence(bdf: str) -> None:
    kept: list[model.BenchResult] = []
    progress: list[runner.RowProgress] = []
    result = runner.measure(runner.Plan(bdf, MAPS, retry=False, processes=2, values=30), kept.append, progress.append)
    assert [len(one.rows) for one in kept] == [1, 2, 2, 2]
    assert kept[-1] == result
    assert [(one.done, one.total) for one in progress if not one.part] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert progress[-1].seconds_left == 0
    assert result.target.device == bdf
    assert result.target.evidence.ecap is not None
    for row, size in zip(result.rows, SIZES, strict=True):
        assert row.iova % size == 0
        assert len(row.runs) == 2
        for run in row.runs:
            assert run.pinned_bytes == size
            assert [len(one.ns) for one in run.operations.values()] == [30, 30]
            assert min(min(one.ns) for one in run.operations.values()) > 0


def test_command_prints_the_table_and_keeps_the_run(
    cli: Callable[..., subprocess.CompletedProcess[str]], bdf: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.json"
    options = ["--no-retry", "--size", "4K,64K", "--processes", "1", "--values", "5", "--cache", "dirty,untouched"]
    done = cli("bench", "run", "--device", bdf, *options, "--output", str(file))
    assert done.returncode == 0, done.stderr
    for text in (
        "kernel:",
        "platform:",
        "coherency:",
        "ECAP=0x",
        "ns/4K",
        "GiB/s",
        "unmap",
        "untouched",
        "FEW_RUNS",
    ):
        assert text in done.stdout
    written = json.loads(file.read_text())
    jsonschema.Draft202012Validator(read_schema(document.SCHEMA)).validate(written)
    assert [row["point"]["size_bytes"] for row in written["rows"]] == [4096, 4096, 65536, 65536]
    assert written["command"][1:3] == ["bench", "run"]
    shown = cli("bench", "show", str(file))
    assert shown.stdout == done.stdout


def test_an_interrupted_run_keeps_its_rows(bdf: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    command = [*DEFAULT_SIGNALS, IOMMUFD, "bench", "run"]
    command += ["--device", bdf, "--size", "4K"]
    command += ["--processes", "1000", "--output", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        try:
            wait_until(file.exists)
        finally:
            os.killpg(running.pid, signal.SIGINT)  # A terminal also sends the signal to all processes of the run.
        said = running.communicate(timeout=patience(60))[1]
    assert running.returncode == 130
    assert str(file) in said
    assert "Traceback" not in said
    assert document.load_result(file).rows[0].runs


def test_thp_gives_large_leaves(bdf: str) -> None:
    plan = runner.Plan(bdf, (Point(Workload.MAP, 4 << 20, backing="thp"),), retry=False, processes=1, values=1)
    (row,) = runner.measure(plan).rows
    if not row.leaves:
        pytest.skip("needs CONFIG_INTEL_IOMMU_DEBUGFS and debugfs mounted, as the lab's kernels have")
    assert row.leaves == ({2 << 20: 2},)


def test_without_huge_pages_or_alignment_there_are_none(bdf: str) -> None:
    points = (
        Point(Workload.MAP, 4 << 20, backing="thp", huge_pages=False),
        Point(Workload.MAP, 4 << 20, backing="thp", alignment=64 << 10),
    )
    for row in runner.measure(runner.Plan(bdf, points, retry=False, processes=1, values=1)).rows:
        if not row.leaves:
            pytest.skip("needs CONFIG_INTEL_IOMMU_DEBUGFS and debugfs mounted, as the lab's kernels have")
        assert row.leaves == ({4 << 10: 1024},)
        assert not row.point.alignment or row.iova % (row.point.alignment * 2) == row.point.alignment


@pytest.mark.parametrize("mode", [mode for mode in ContainerMode if mode is not ContainerMode.IOMMUFD])
def test_every_kind_of_container_is_timed_alike(bdf: str, mode: ContainerMode) -> None:
    points = (
        Point(Workload.MAP, 1 << 20, backend=mode),
        Point(Workload.MAP, 1 << 20, backend=mode, chunk_bytes=4096, bulk_unmap=True),
    )
    rows = runner.measure(runner.Plan(bdf, points, retry=False, processes=1, values=5)).rows
    for row in rows:
        assert [len(one.ns) for one in row.runs[0].operations.values()] == [5, 5]
        assert row.leaves in ((), ({4096: 256},))
    if mode in (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2):
        teardown = Point(Workload.TEARDOWN, 1 << 20, backend=mode)
        (run,) = runner.measure(runner.Plan(bdf, (teardown,), retry=False, processes=1, values=5)).rows[0].runs
        assert list(run.operations) == ["first-map", "teardown"]
        assert [len(one.ns) for one in run.operations.values()] == [5, 5]
    with pytest.raises(CoherencyError):
        wrong = {False: Coherency.COHERENT, True: Coherency.NON_COHERENT}
        coherent = runner.measure(
            runner.Plan(bdf, points[:1], retry=False, processes=1, values=1)
        ).target.evidence.dma_cc
        with set_up(points[0], bdf, wrong[coherent]):
            pass


def test_close_of_a_device_and_its_iommufd(bdf: str) -> None:
    (row,) = runner.measure(
        runner.Plan(bdf, (Point(Workload.CLOSE, 1 << 20),), retry=False, processes=1, values=3)
    ).rows
    (samples,) = row.samples("close")
    assert len(samples.ns) == 3


@pytest.mark.skipif(not IN_LAB, reason="takes the lab's NVMe controller; run it in the lab")
def test_dma_is_part_of_the_cycle(cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    options = [
        "--no-retry",
        "--bind",
        "--dma",
        "--size",
        "4K,64K",
        "--processes",
        "1",
        "--values",
        "5",
        "--output",
        str(file),
    ]
    done = cli("bench", "run", "--device", NVME_DEVICE, *options)
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    jsonschema.Draft202012Validator(read_schema(document.SCHEMA)).validate(written)
    for row in written["rows"]:
        assert row["point"]["workload"] == "dma"
        assert [len(one["ns"]) for one in row["runs"][0]["operations"].values()] == [5]
    assert cli("bench", "run", "--device", "mock", "--dma", "--size", "4K").returncode == 2
    assert pci.pci_device(NVME_DEVICE).driver == "nvme"


def test_shares_add_up_to_the_whole(bdf: str) -> None:
    map_parts, unmap_parts = trace.break_down(bdf, [Point(Workload.MAP, 2 << 20, backing="thp")], rounds=3)
    for breakdown, needed in ((map_parts, {"pinning", "page tables"}), (unmap_parts, {"unpinning", "page tables"})):
        parts = {part.name: part for part in breakdown.parts}
        assert needed <= parts.keys()
        assert parts[trace.REST].calls == breakdown.rounds == 3
        assert sum(part.ns for part in breakdown.parts) == breakdown.whole_ns > 0
    flushed = {part.name: part.calls for part in map_parts.parts}.get("data-page flush", 0)
    with Iommufd() as iommufd:
        flushes = flush_count(iommufd) is not None
        hwpt = VfioDevice(iommufd, bdf).alloc_hwpt(iommufd.alloc_ioas())
        assert flushed == (3 if flushes and not hwpt.evidence.dma_cc else 0)
