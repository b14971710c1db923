# SPDX-License-Identifier: MIT
"""A map that fails halfway: the kernel must not flush and unpin a page while a domain still maps it.

The tests let allocations of the kernel fail one after the other, and record the order of calls by the function tracer.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from iommufd_py import DmaBuffer, Iommufd, IommufdError, MockDevice
from tests.conftest import need, need_flush_count, need_mock_driver, need_tracing

DEBUGFS = Path("/sys/kernel/debug")
TRACING = Path("/sys/kernel/tracing")
PAGE = 4096
BASE = 1 << 24
PAGES = 16
DOMAINS = 3

UNMAP = "iommu_unmap"
FLUSH = "arch_flush_cache_phys"
UNPIN = "unpin_user_page_range_dirty_lock"
# Any allocation may fail, without a report in the kernel log.
INJECTION = {
    "failslab/ignore-gfp-wait": "N",
    "failslab/verbose": "0",
    "fail_page_alloc/ignore-gfp-wait": "N",
    "fail_page_alloc/min-order": "0",
    "fail_page_alloc/verbose": "0",
}


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


@pytest.fixture
def trace(iommufd: Iommufd) -> Iterator[Path]:
    """Trace the three functions in this process. A read empties the trace."""
    need_mock_driver(iommufd)
    need_flush_count(iommufd)
    need_tracing()
    need((TRACING / "available_filter_functions").exists(), "needs CONFIG_DYNAMIC_FTRACE and tracefs")
    need((DEBUGFS / "failslab").exists(), "needs CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS")
    instance = TRACING / "instances/iommufd-py-unwind"
    instance.mkdir()
    try:
        (instance / "set_ftrace_filter").write_text(f"{UNMAP} {FLUSH} {UNPIN}")
        (instance / "set_ftrace_pid").write_text(str(os.getpid()))
        (instance / "current_tracer").write_text("function")
        yield instance / "trace"
    finally:
        instance.rmdir()


def calls(trace: Path) -> list[str]:
    """Return the functions called since the last read, in order."""
    names = [line.partition(": ")[2].split()[0] for line in trace.read_text().splitlines() if not line.startswith("#")]
    trace.write_text("")
    return names


def failing_maps(iommufd: Iommufd, buffer: DmaBuffer, trace: Path) -> Iterator[list[str]]:
    """Map with the first allocation failing, then the second, and so on; yield the calls of each failed map.

    Each map uses three new domains, because a domain keeps the tables of a failed map.
    """
    device = MockDevice(iommufd)
    own = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
    try:
        for nth in itertools.count(1):
            with iommufd.alloc_ioas() as ioas:
                for _ in range(DOMAINS):
                    device.alloc_hwpt(ioas)
                calls(trace)
                os.pwrite(own, str(nth).encode(), 0)
                try:
                    ioas.map(buffer, BASE)
                except IommufdError:
                    failed = True
                else:
                    failed = False
                injected = int(os.pread(own, 16, 0)) == 0
                os.pwrite(own, b"0", 0)
                if failed:
                    yield calls(trace)
            if not injected:
                return
    finally:
        os.close(own)


def test_a_failed_map_unmaps_before_it_flushes_and_unpins(iommufd: Iommufd, trace: Path) -> None:
    unwound = set()
    with ExitStack() as stack, DmaBuffer(PAGES * PAGE) as buffer:
        for name, value in INJECTION.items():
            stack.enter_context(setting(DEBUGFS / name, value))
        for order in failing_maps(iommufd, buffer, trace):
            if UNMAP not in order:
                continue  # the map failed before it mapped a page
            unwound.add(order.count(UNMAP))
            unmapped = len(order) - order[::-1].index(UNMAP)
            before, after = order[:unmapped], order[unmapped:]
            assert UNPIN not in before, order
            assert before.count(FLUSH) == after.count(FLUSH) > 0, order
            assert after[0] == FLUSH, order
    # iommu_map() of 6.12 unmaps its own pages after a failure, which can be one more call.
    assert max(unwound) >= DOMAINS, "no map failed in the last domain after it had mapped into the others"
