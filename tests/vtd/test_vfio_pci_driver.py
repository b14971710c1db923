# SPDX-License-Identifier: MIT
"""The cases of tools/testing/selftests/vfio/vfio_pci_driver_test.c, by our engines instead of libvfio's drivers.

A copy is a read by the device and a write by the device, because not every device can do both in one transfer. The
C program accepts whatever a device reports of an unmapped IOVA; here the mapped memory must stay unchanged, too.
"""

import contextlib
from collections.abc import Iterator

import pytest

from iommufd_py.dma import EduEngine, open_engine
from iommufd_py.dma.ethernet import EthernetEngine
from iommufd_py.dma.harness import Harness, Window
from tests.waiting import patience

PAGE = 4096
COPIED = 4 * PAGE


def unmapped_iova(harness: Harness) -> int:
    """Return the IOVA of *COPIED* bytes behind the regions, which nothing maps."""
    return harness.place(4 * COPIED) + 3 * COPIED


@contextlib.contextmanager
def regions(harness: Harness) -> Iterator[tuple[Window, Window]]:
    """Provide a mapped source and a mapped destination."""
    first = harness.place(4 * COPIED)
    with harness.window(COPIED, first) as source, harness.window(COPIED, first + COPIED) as destination:
        yield source, destination


def copy(harness: Harness, source: Window, destination: Window) -> None:
    """Let the device read the whole source and write the whole destination, and check every byte."""
    if harness.engine.reads.max_bytes:
        harness.read(source, source.iova, COPIED)
    destination.expect(destination.iova, harness.write(destination.iova, COPIED))
    destination.refill()


def read_unmapped(harness: Harness, destination: Window) -> None:
    """Let the device read where nothing is mapped."""
    content = harness.engine.readable(harness.engine.reads.fit(COPIED))
    assert not harness.engine.read(unmapped_iova(harness), content)
    destination.expect()


def interrupted(harness: Harness, destination: Window) -> None:
    """Let the device send one interrupt, by the completion of a write."""
    engine = harness.engine
    assert engine._interrupts is not None
    while engine._interrupts.wait(engine.interrupt_vector, timeout=0.05):
        pass  # These are completions that polling saw before their interrupt arrived.
    content = engine.start_write(destination.iova, 0x80)
    count = engine._interrupts.wait(engine.interrupt_vector, timeout=patience(1))
    # QEMU's 82574L can postpone an interrupt. From then on it repeats each interrupt until somebody reads the cause:
    # e1000e_intrmgr_on_throttling_timer() in hw/net/e1000e_core.c.
    assert count == 1 or (count > 1 and isinstance(engine, EthernetEngine))
    engine.wait(timeout=patience(1))
    destination.expect(destination.iova, content)
    destination.refill()


def reopen(harness: Harness, *, interrupt: bool = False) -> None:
    """Remove the engine from the device, and start it again."""
    device = harness.engine.device
    harness.engine.close()
    harness.engine = open_engine(device, harness.space, interrupt=interrupt)


def test_init_remove(mode_harness: Harness) -> None:
    for _ in range(10):
        reopen(mode_harness)
    with regions(mode_harness) as (source, destination):
        copy(mode_harness, source, destination)


def test_memcpy_success(mode_harness: Harness) -> None:
    with regions(mode_harness) as (source, destination):
        copy(mode_harness, source, destination)


def test_memcpy_from_unmapped_iova(mode_harness: Harness) -> None:
    if not mode_harness.engine.reads.max_bytes:
        pytest.skip(f"{mode_harness.bdf} has no namespace, which the check of a read needs")
    with regions(mode_harness) as (_, destination):
        read_unmapped(mode_harness, destination)


def test_memcpy_to_unmapped_iova(mode_harness: Harness) -> None:
    with regions(mode_harness) as (source, destination):
        mode_harness.try_write(unmapped_iova(mode_harness), mode_harness.engine.writes.fit(COPIED))
        source.expect()
        destination.expect()


def test_send_msi(mode_harness: Harness) -> None:
    reopen(mode_harness, interrupt=True)
    with regions(mode_harness) as (_, destination):
        interrupted(mode_harness, destination)


def test_mix_and_match(mode_harness: Harness) -> None:
    reopen(mode_harness, interrupt=True)
    with regions(mode_harness) as (source, destination):
        for _ in range(3 if isinstance(mode_harness.engine, EduEngine) else 10):
            copy(mode_harness, source, destination)
            if mode_harness.engine.reads.max_bytes:
                read_unmapped(mode_harness, destination)
            interrupted(mode_harness, destination)


def test_memcpy_storm(mode_harness: Harness) -> None:
    """One write after the other, without a look at memory until the last."""
    length = mode_harness.engine.writes.fit(COPIED)
    with regions(mode_harness) as (source, destination):
        for _ in range(20 if isinstance(mode_harness.engine, EduEngine) else 500):
            content = mode_harness.engine.write(destination.iova, length)
        destination.expect(destination.iova, content)
        source.expect()
