# SPDX-License-Identifier: MIT
"""Fixtures of all tests. docs/architecture.md says what the tests of each folder need."""

import errno
import gzip
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iommufd_py import FlushCount, Iommufd, flush_count
from iommufd_py.base.environment import Platform
from iommufd_py.host import environment
from iommufd_py.testing.requirements import IN_LAB, need, need_ioctl, need_mock_driver
from tests import documents
from tests.programs import IOMMUFD
from tests.waiting import patience

__all__ = ["IN_LAB", "fails", "need", "need_flush_count", "need_ioctl", "need_mock_driver"]

FREE_2M = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")


# Tests fork, and a process with threads must not: the copy of a lock that a thread holds is never free. OpenBLAS, which
# numpy and scipy load, starts its threads when it is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# If the caller has set SIGCHLD to be ignored, the kernel does not report the status of children.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
# A shell lets its background processes ignore SIGINT. Then Python has no handler, and tests that raise SIGINT see none.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("iommufd-py")
    group.addoption(
        "--seed", type=int, default=secrets.randbelow(1 << 32), help="of the model test; random if not given"
    )
    group.addoption("--steps", type=int, default=2000, help="of the model test, 2000 if not given")


def pytest_report_header(config: pytest.Config) -> str:
    # Before any test runs: if the kernel dies, the rest of the output is lost.
    return f"model test: --seed {config.getoption('seed')} --steps {config.getoption('steps')}"


def free_huge_pages() -> int:
    """Return the number of free 2M pages."""
    return int(FREE_2M.read_text()) if FREE_2M.exists() else 0


def need_huge_pages() -> None:
    """Skip on a kernel without huge pages, such as User-Mode Linux. On others they must be reserved."""
    if not FREE_2M.exists():
        pytest.skip("this kernel has no huge pages")
    need(free_huge_pages() >= 4, f"needs 4 free 2M huge pages (nr_hugepages beside {FREE_2M})")


def need_page_faults() -> None:
    """Skip on a kernel without IO page faults, such as User-Mode Linux, where no driver selects CONFIG_IOMMU_IOPF."""
    config = Path("/proc/config.gz")
    if config.exists() and b"CONFIG_IOMMU_IOPF=y" not in gzip.decompress(config.read_bytes()):
        pytest.skip("this kernel has no IO page faults (CONFIG_IOMMU_IOPF)")


def need_tracing() -> None:
    """Skip on User-Mode Linux, which has no probes and no function tracer. Other kernels must have them."""
    if environment().platform == Platform.UML:
        pytest.skip("User-Mode Linux has no probes and no function tracer")


def need_flush_count(iommufd: Iommufd) -> FlushCount:
    """Return the kernel's flushes so far. Skip on a kernel that does not flush, but fail on the lab's patched one."""
    count = flush_count(iommufd)
    if count is None:
        assert not os.environ.get("IOMMUFD_LAB_KERNEL", "").startswith("patched"), (
            "the patched kernel does not count its flushes"
        )
        pytest.skip("needs a kernel with the flush series: run 'iommufd lab run --kernel patched -- pytest ...'")
    return count


@contextmanager
def fails(number: int) -> Iterator[None]:
    """Expect the kernel to answer with this errno."""
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number, f"{errno.errorcode[number]} was expected: {caught.value}"


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `iommufd` as a user does, in a separate process. Its JSON documents must conform to their schemas."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        command = [IOMMUFD, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience(600), check=False, **options)
        for text in (done.stdout, done.stderr):
            if isinstance(text, str):
                documents.check_documents(text)
        return done

    return run
