# SPDX-License-Identifier: MIT
"""Mistakes of a user on a complete machine: one sentence, status 1, and nothing left behind."""

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from iommufd_py import Iommufd, flush_count, pci
from tests.conftest import IN_LAB, need_mock_driver
from tests.programs import IOMMUFD
from tests.waiting import patience

pytestmark = pytest.mark.skipif(not IN_LAB, reason="changes limits and huge pages; run it in the lab")

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _devices_are_left_as_they_were(bdf: str) -> Iterator[None]:
    before = pci.list_devices()
    yield
    assert pci.list_devices() == before


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("--device", "0000:ff:1f.7"), ("no PCI device 0000:ff:1f.7", "iommufd device list")),
        (
            ("--device", "0000:00:1f.0"),
            ("is bound to no driver instead of vfio-pci", "iommufd device bind 0000:00:1f.0"),
        ),
        (("--device", "0000:ff:1f.7", "--bind"), ("no PCI device 0000:ff:1f.7",)),
        (
            ("--device", "{bdf}", "--iova", "0xfee00000"),
            ("from IOVA 0xfee00000 are not in a range that {bdf} allows", "0xfedfffff"),
        ),
        (("--device", "{bdf}", "--iova", "0x100000800"), ("IOVA 0x100000800 is not a multiple of 4K",)),
        (("--device", "{bdf}", "--iova", "0xfffffffffffff000"), ("are not in a range that {bdf} allows",)),
        (("--device", "{bdf}", "--size", "512T"), ("no allowed IOVA range holds 512T", "map less")),
        (("--device", "{bdf}", "--size", "64G"), ("64G", "4k memory")),
        (("--device", "{bdf}", "--size", "4G", "--backing", "hugetlb-2m"), ("2048 free 2M huge pages", "nr_hugepages")),
    ],
)
def test_one_sentence_and_status_1(cli: Cli, bdf: str, arguments: tuple[str, ...], texts: tuple[str, ...]) -> None:
    done = cli("bench", "run", *(argument.format(bdf=bdf) for argument in arguments))
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for text in texts:
        assert text.format(bdf=bdf) in done.stderr


def test_coherency_that_cannot_be_had(cli: Cli, iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    if flush_count(iommufd) is not None:
        pytest.skip("a mock device of the flush series can be coherent")
    done = cli("bench", "run", "--device", "mock", "--coherency", "coherent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is non-coherent, not coherent: VFIO_DMA_CC_IOMMU=0; use a device" in done.stderr


def without_privilege(command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command without CAP_IPC_LOCK, so that RLIMIT_MEMLOCK applies as for a user's process."""
    shell = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "sh", "-c", command]
    return subprocess.run(shell, capture_output=True, text=True, timeout=patience(120), check=False)


def test_memlock_too_low(bdf: str) -> None:
    run = f"exec {IOMMUFD} map --device {bdf} --size 1M"
    done = without_privilege(f"ulimit -l 512; {run}")
    assert done.returncode == 1
    assert "ENOMEM: the mapped pages cannot be pinned: RLIMIT_MEMLOCK is too low" in done.stdout
    assert without_privilege(f"ulimit -l 2048; {run}").returncode == 0


def test_benchmark_without_the_privilege_to_lock_memory(bdf: str) -> None:
    run = f"exec {IOMMUFD} bench run --device {bdf} --size 1M --processes 1 --values 2"
    done = without_privilege(run)
    assert done.returncode == 1
    remedy = re.search(r"charges its pinned pages: use (--accounting \w+),", done.stderr)
    assert remedy is not None, done.stderr
    assert without_privilege(f"{run} {remedy[1]}").returncode == 0


def test_not_root(bdf: str, nobody: list[str]) -> None:
    done = subprocess.run(
        [*nobody, IOMMUFD, "bench", "run", "--device", bdf], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "no permission to open /dev/iommu: run as root" in done.stderr
