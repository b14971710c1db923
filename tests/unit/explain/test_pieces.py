# SPDX-License-Identifier: MIT
"""Times within the ioctls of a process, from trace records with gaps."""

from collections.abc import Sequence

from iommufd_py.explain.calls import Request, TracedIoctl
from iommufd_py.explain.pieces import FAULT_IN, REST, Measured, WorkPiece, measured, pieces_of
from iommufd_py.host.map_parts import PartTime
from iommufd_py.host.trace_records import TraceRecord

PART_OF = {"handle_mm_fault": FAULT_IN, "pin_user_pages_fast": "pinning", "iommu_map": "page tables"}
IOCTL = "iommufd_fops_ioctl"
MAP = Request("IOMMU_IOAS_MAP", 1 << 28, 1 << 20, 1 << 40)


def events(*calls: tuple[float, str], tid: int = 7, text: str = "") -> list[TraceRecord]:
    """Make events; ``-name`` is the return from ``name``."""
    return [
        TraceRecord(time, tid, 0, f"{name[1:]}_returned" if name.startswith("-") else name, text)
        for time, name in calls
    ]


WHOLE = [
    *events((10, IOCTL), (11, "pin_user_pages_fast"), (12, "handle_mm_fault"), (15, "-handle_mm_fault")),
    *events((16, "-pin_user_pages_fast"), (17, "iommu_map"), text="iova=0x10000000 length=1048576"),
    *events((19, "-iommu_map"), (20, f"-{IOCTL}")),
]
PARTS = {
    REST: PartTime(1 + 1 + 1, 1),
    "pinning": PartTime(1 + 1, 1),
    FAULT_IN: PartTime(3, 1),
    "page tables": PartTime(2, 1),
}


def of(records: Sequence[TraceRecord], start: float = 0, end: float = 100) -> list[WorkPiece]:
    found, unreadable = pieces_of(records, start, end, PART_OF)
    assert not unreadable
    return found


def test_an_ioctl_within_the_time_is_one_piece() -> None:
    # The return of the pin has the text of the entry of a map, which must be read for entries only.
    assert of(WHOLE) == [WorkPiece(7, 10, 20, True, PARTS, {1 << 20: 1}, 1 << 28, 3)]


def test_times_outside_of_ioctls_do_not_count() -> None:
    around = [
        *events((21, "handle_mm_fault"), (22, "-handle_mm_fault")),
        *events((9, "handle_mm_fault"), (23, "-handle_mm_fault"), tid=8),
    ]
    calls = [TracedIoctl(MAP, 7, 10, 20, 0)]
    (one,) = measured(calls, of(sorted([*WHOLE, *around], key=lambda record: record.time)))
    assert (one.seen_s, one.seconds, one.parts) == (10, 10, PARTS)


def test_a_time_that_begins_and_ends_in_the_ioctl() -> None:
    (piece,) = of([one for one in WHOLE if 13 <= one.time <= 18], 13, 18)
    assert not piece.sure
    assert piece.parts == {
        REST: PartTime(1, 1),
        "pinning": PartTime(1, 0),  # The call began before the interval.
        FAULT_IN: PartTime(2, 0),
        "page tables": PartTime(1, 1),
    }
    (one,) = measured([TracedIoctl(MAP, 7, 10, 20, 0)], [piece])
    assert (one.seen_s, one.seconds) == (5, 10)


def test_a_time_that_ends_before_the_first_event_in_the_ioctl() -> None:
    (piece,) = of(WHOLE, 0, 10.5)
    assert (piece.sure, piece.parts) == (True, {REST: PartTime(0.5, 1)})


def test_pieces_of_an_ioctl_add_up() -> None:
    pieces = [piece for start, end in ((0, 13), (13, 18), (18, 30)) for piece in of(WHOLE, start, end)]
    (one,) = measured([TracedIoctl(MAP, 7, 10, 20, 0)], pieces)
    assert one.seen_s == 10
    assert {name: part.seconds for name, part in one.parts.items()} == {
        name: part.seconds for name, part in PARTS.items()
    }
    assert one.runs == {1 << 20: 1}


def test_an_ioctl_that_had_begun_before_is_shown_as_one() -> None:
    (one,) = measured([], of([record for record in WHOLE if 10 < record.time < 20], 10.5, 40))
    assert one.begun_before
    assert one.call.end is None
    assert one.iova == 1 << 28
    assert one.parts["page tables"] == PartTime(2, 1)


def test_faults_alone_are_no_sign_of_an_ioctl() -> None:
    assert measured([], of(events((5, "handle_mm_fault"), (6, "-handle_mm_fault")))) == []


def test_events_between_two_ioctls_belong_to_neither() -> None:
    records = [*WHOLE, *events((30, "iommu_map"), (31, "-iommu_map")), *events((40, IOCTL), (41, f"-{IOCTL}"))]
    calls = [TracedIoctl(MAP, 7, 10, 20, 0), TracedIoctl(MAP, 7, 40, 41, 0)]
    first, second = measured(calls, of(records))
    assert first.parts["page tables"].calls == 1
    assert second.parts == {REST: PartTime(1, 1)}


def test_an_ioctl_of_another_kind_is_left_out_unless_it_worked() -> None:
    attach = TracedIoctl(Request("VFIO_DEVICE_ATTACH_IOMMUFD_PT"), 7, 10, 20, 0)
    irqs = TracedIoctl(Request("ioctl 0x3b6e"), 7, 40, 41, 0)
    pieces = of([*WHOLE, *events((40, IOCTL), (41, f"-{IOCTL}"))])
    assert [one.call for one in measured([attach, irqs], pieces)] == [attach]


def test_a_map_without_a_recorded_time_stays_in_the_list() -> None:
    assert measured([TracedIoctl(MAP, 7, 10, 20, 0)], []) == [Measured(TracedIoctl(MAP, 7, 10, 20, 0), 1 << 28)]


def test_the_iova_that_the_kernel_chose_is_that_of_the_first_run() -> None:
    request = Request("IOMMU_IOAS_MAP", None, 1 << 20, 1 << 40)
    without_runs = [one for one in WHOLE if not one.name.startswith("iommu_map")]
    for records, iova in ((WHOLE, 1 << 28), (without_runs, None)):
        (one,) = measured([TracedIoctl(request, 7, 10, 20, 0)], of(records))
        assert one.iova == iova


def test_a_piece_out_of_order_is_counted_and_left_out() -> None:
    broken = events((10, IOCTL), (11, "iommu_map"), (12, "-pin_user_pages_fast"), (13, f"-{IOCTL}"))
    assert pieces_of(broken, 0, 20, PART_OF) == ([], 1)
