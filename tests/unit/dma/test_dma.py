# SPDX-License-Identifier: MIT
"""Computations of the DMA engines, and the checks of memory. tests/vtd/test_dma.py tests real devices."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import DmaBuffer
from iommufd_py.dma import DmaFault, FaultLog, TransferLimits, parse_dma_faults
from iommufd_py.dma.faults import room_time
from iommufd_py.dma.harness import MismatchError, Window, first_difference
from iommufd_py.dma.nvme_controller import COMMAND_BYTES, encode_command, prps
from iommufd_py.host import kmsg

PAGE = 4096
LIST = 0xABC000


@given(st.integers(0, 1 << 40), st.integers(1, 64 * PAGE))
def test_prps_cover_every_page_once(iova: int, length: int) -> None:
    first, second, listed = prps(iova, length, LIST)
    pages = [first // PAGE * PAGE]
    if listed:
        assert second == LIST
        pages += listed
    elif second:
        pages.append(second)
    assert first == iova
    assert pages == list(range(iova // PAGE * PAGE, iova + length, PAGE))


def test_a_list_is_used_only_where_two_entries_do_not_do() -> None:
    assert prps(0x1000, PAGE, LIST) == (0x1000, 0, ())
    assert prps(0x1004, PAGE, LIST) == (0x1004, 0x2000, ())
    assert prps(0x1000, 2 * PAGE, LIST) == (0x1000, 0x2000, ())
    assert prps(0x1004, 2 * PAGE, LIST) == (0x1004, LIST, (0x2000, 0x3000))


def test_a_command_is_laid_out_as_the_specification_has_it() -> None:
    command = encode_command(0x06, identifier=0x1234, nsid=7, prp1=0x1122334455667788, prp2=0x99, dwords=(0xAA, 0xBB))
    assert len(command) == COMMAND_BYTES
    dwords = struct.unpack("<16I", command)
    assert dwords[0] == 0x1234_0006
    assert dwords[1] == 7
    assert dwords[6:8] == (0x55667788, 0x11223344)
    assert dwords[8] == 0x99
    assert dwords[10:12] == (0xAA, 0xBB)
    assert not any(dwords[2:6])
    assert not any(dwords[12:])


LOG = """\
[   11.1] DMAR: DRHD: handling fault status reg 2
[   11.1] DMAR: [DMA Write NO_PASID] Request device [0000:00:10.0] fault addr 0x3000 [fault reason 0x05] PTE Write access is not set
[   11.2] DMAR: [DMA Read NO_PASID] Request device [00:12.0] fault addr 0xffff0000 [fault reason 0x06] PTE Read access is not set
[   11.3] DMAR: [DMA Read PASID 0x0] Request device [0000:00:10.0] fault addr 0x4000 [fault reason 0x71] SM: Present bit is not set
[   11.4] DMAR: [INTR-REMAP] Request device [0000:00:10.0] fault index 0x1 [fault reason 0x25] Blocked a compatibility format
[   11.5] somebody wrote DMAR: [DMA Write NO_PASID] Request device [0000:00:10.0] fault addr 0x3000 [fault reason 0x05] no
"""  # noqa: E501


def test_faults_are_read_from_a_kernel_log() -> None:
    assert parse_dma_faults(LOG) == (
        DmaFault("0000:00:10.0", "write", 0x3000, 5, "PTE Write access is not set"),
        DmaFault("0000:00:12.0", "read", 0xFFFF_0000, 6, "PTE Read access is not set"),
        DmaFault("0000:00:10.0", "read", 0x4000, 0x71, "SM: Present bit is not set"),
    )


@given(st.integers(1, 1 << 20), st.integers(1, 512), st.integers(0, 1 << 21))
def test_a_transfer_that_fits_is_legal_and_no_longer_one_is(most: int, granule: int, length: int) -> None:
    limits = TransferLimits(most * granule, granule, 1)
    fit = limits.fit(length)
    assert fit % granule == 0
    assert fit <= min(length, limits.max_bytes)
    assert fit + granule > min(length, limits.max_bytes)


def test_a_window_sees_every_wrong_byte() -> None:
    before = bytes(range(256)) * 16
    with DmaBuffer(PAGE) as buffer:
        window = Window(buffer, 0x10000, before, None)
        window.refill()
        window.expect()
        with buffer.view as view:
            view[0x100:0x104] = b"abcd"
        window.expect(0x10100, b"abcd")
        with pytest.raises(MismatchError, match="4 wrong bytes, the first at IOVA 0x10100, outside"):
            window.expect()
        with pytest.raises(MismatchError, match="1 wrong byte, the first at IOVA 0x10103, inside"):
            window.expect(0x10100, b"abcx")
        window.expect_at_most(0x10100, b"abcdefgh")
        with pytest.raises(MismatchError, match="the byte at IOVA 0x10103 is 0x64: neither old nor new content"):
            window.expect_at_most(0x10100, b"abc")
        with buffer.view as view:
            view[PAGE - 1] ^= 1
        with pytest.raises(MismatchError, match="1 wrong byte, the first at IOVA 0x10fff, outside"):
            window.expect(0x10100, b"abcd")


@pytest.mark.slow
@given(st.binary(min_size=1, max_size=64), st.data())
def test_first_difference(wanted: bytes, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(wanted) - 1), min_size=1))
    found = bytes(byte ^ (at in places) for at, byte in enumerate(wanted))
    assert first_difference(found, wanted) == (min(places), len(places))


def test_a_machine_without_a_kernel_log_has_no_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container has no /dev/kmsg. The checks compare memory, and need no log."""
    monkeypatch.setattr(kmsg, "KMSG", tmp_path / "kmsg")
    with FaultLog() as log:
        assert not log.readable
        assert log.take("0000:00:10.0") == ()


@given(st.lists(st.floats(0, 6), max_size=40))
def test_the_kernel_logs_each_fault_that_waits_for_room(gaps: list[float]) -> None:
    """dmar_fault() asks its rate limit three times for each fault, and may print ten times in five seconds."""
    seen: list[float] = []
    now = begun = -10.0
    asked = 0
    for gap in gaps:
        now = max(now + gap, room_time(seen))
        if now > begun + 5:
            begun, asked = now, 0
        asked += 3
        assert asked <= 10
        seen.append(now)
