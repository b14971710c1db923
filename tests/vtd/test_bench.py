# SPDX-License-Identifier: MIT
"""The benchmark on a real device, and its loop against the same loop in C."""

import ctypes
import json
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import Backing, DmaBuffer, Iommufd, MockDevice
from iommufd_py.bench import model, runner
from iommufd_py.uapi.bench import map_unmap
from tests.conftest import need_mock_driver

HERE = Path(__file__).parent
SIZES = (4 << 10, 2 << 20)


def test_run_keeps_every_sample_and_the_evidence(bdf: str) -> None:
    kept: list[model.BenchResult] = []
    result = runner.run(runner.Plan(bdf, SIZES, rounds=30), kept.append)
    assert [len(one.rows) for one in kept] == [1, 2]
    assert kept[-1] == result
    assert result.target.device == bdf
    assert result.target.evidence.ecap is not None
    for row, size in zip(result.rows, SIZES, strict=True):
        assert row.size_bytes == row.pinned_bytes == size
        assert len(row.map_ns) == len(row.unmap_ns) == 30
        assert min(row.map_ns + row.unmap_ns) > 0
        assert row.iova % size == 0


def test_command_prints_the_table_and_keeps_the_run(
    cli: Callable[..., subprocess.CompletedProcess[str]], bdf: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.json"
    done = cli("bench", "run", "--device", bdf, "--size", "4K,64K", "--rounds", "5", "--json", str(file))
    assert done.returncode == 0, done.stderr
    for text in ("kernel:", "platform:", "coherency:", "ECAP=0x", "ns/4K page", "GiB/s", "unmap"):
        assert text in done.stdout
    assert [row["size_bytes"] for row in json.loads(file.read_text())["rows"]] == [4096, 65536]
    shown = cli("bench", "show", str(file))
    assert shown.stdout == done.stdout


def test_thp_gives_large_leaves(bdf: str) -> None:
    (row,) = runner.run(runner.Plan(bdf, (4 << 20,), backing=Backing.THP, rounds=1)).rows
    if row.leaves is None:
        pytest.skip("needs CONFIG_INTEL_IOMMU_DEBUGFS and debugfs mounted, as the lab's kernels have")
    assert row.leaves == {2 << 20: 2}


@pytest.mark.parametrize(("size", "rounds"), [(4 << 10, 100), (2 << 20, 20)])
def test_loop_is_as_fast_as_plain_c(iommufd: Iommufd, tmp_path: Path, size: int, rounds: int) -> None:
    """The bar: medians within 2 % of the same loop in plain C, on one kernel, block by block in turn.

    The C is loaded into this process, not run as one of its own: on an emulated CPU every process has a bias of some
    percent by where its pages lie, in either direction. Blocks go in the order ABBA and are compared with their
    neighbour only, so that a busy host, or a slow drift, cannot favour one of the two.
    """
    need_mock_driver(iommufd)
    library, abi = tmp_path / "loop.so", HERE.parents[1] / "cffi_build" / "abi"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "loop.c", "-I", abi], check=True)
    loop = ctypes.CDLL(str(library)).loop
    loop.argtypes = [ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64]
    loop.argtypes += [ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    device, ioas = MockDevice(iommufd), iommufd.alloc_ioas()
    device.attach(device.alloc_hwpt(ioas))
    iova = 1 << 24

    def ours() -> list[float]:
        return [*map(statistics.median, map_unmap(iommufd.fileno(), ioas.id, buffer.user_va, size, iova, rounds))]

    def plain_c() -> list[float]:
        samples = [(ctypes.c_uint64 * rounds)() for _ in range(2)]
        assert loop(iommufd.fileno(), ioas.id, buffer.user_va, size, iova, rounds, *samples) == 0
        return [*map(statistics.median, samples)]

    def deviation() -> float:
        """Return how far the median ratio is from one, of map or unmap, whichever is farther."""
        ratios: list[list[float]] = []
        for _ in range(100):
            a, b, c, d = ours(), plain_c(), plain_c(), ours()
            ratios += [[x / y for x, y in zip(a, b, strict=True)], [x / y for x, y in zip(d, c, strict=True)]]
        return max(abs(statistics.median(column) - 1) for column in zip(*ratios, strict=True))

    with DmaBuffer(size) as buffer:
        ours(), plain_c()  # the first maps build the page tables
        # A host that is busy with something else can spoil one trial; a slower loop is slower in every one.
        best = 1.0
        for _ in range(3):
            best = min(best, deviation())
            if best <= 0.02:
                break
    assert best <= 0.02
