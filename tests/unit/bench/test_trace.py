# SPDX-License-Identifier: MIT
"""The time of an operation is divided into the times of its parts, from made-up trace records."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from iommufd_py import ToolError
from iommufd_py.bench.trace import breakdowns, split
from iommufd_py.host.trace_records import TraceRecord
from iommufd_py.results.breakdown import REST, Breakdown, Part, breakdowns_document, load_breakdowns

WHOLES = {"iommufd_ioas_map": "map", "iommufd_ioas_unmap": "unmap"}


def record(*calls: tuple[float, str]) -> list[TraceRecord]:
    """Make events with times in us; ``-name`` is the return from ``name``."""
    return [
        TraceRecord(us / 1e6, 7, 0, f"{name[1:]}_returned" if name.startswith("-") else name, "") for us, name in calls
    ]


MAP = record(
    (10, "iommufd_ioas_map"),
    (11, "pin_user_pages_fast"),
    (14, "-pin_user_pages_fast"),
    (15, "arch_flush_cache_phys"),
    (16, "clflush_cache_range"),
    (20, "-clflush_cache_range"),
    (21, "-arch_flush_cache_phys"),
    (22, "iommu_map"),
    (24, "clflush_cache_range"),
    (26, "-clflush_cache_range"),
    (28, "cache_tag_flush_range_np"),
    (33, "-cache_tag_flush_range_np"),
    (34, "-iommu_map"),
    (40, "-iommufd_ioas_map"),
)


def test_each_part_has_the_time_in_itself_and_all_add_up_to_the_whole() -> None:
    times = split(MAP, "iommufd_ioas_map")
    assert times == {
        REST: (1000 + 1000 + 1000 + 6000, 1),
        "pinning": (3000, 1),
        # The flush of data pages calls clflush_cache_range() too.
        "data-page flush": (6000, 1),
        "page tables": (2000 + 2000 + 1000, 1),
        "page-table flush": (2000, 1),
        "IOTLB invalidation": (5000, 1),
    }
    assert sum(ns for ns, _ in times.values()) == 30_000


def test_time_outside_of_the_operation_does_not_count() -> None:
    outside = record((1, "-iommu_unmap"), (2, "pin_user_pages_fast"), (3, "-pin_user_pages_fast"))
    after = record((50, "clflush_cache_range"), (60, "-clflush_cache_range"))
    assert split([*outside, *MAP, *after], "iommufd_ioas_map") == split(MAP, "iommufd_ioas_map")
    assert split(MAP, "iommufd_ioas_unmap") == {}


def test_a_return_without_its_call_is_refused() -> None:
    with pytest.raises(ToolError, match="out of order: iommu_map_returned in iommufd itself"):
        split(record((1, "iommufd_ioas_map"), (2, "-iommu_map")), "iommufd_ioas_map")


def of_all(records: Sequence[TraceRecord]) -> list[Breakdown]:
    return list(breakdowns(records, WHOLES, 1, 7, "4K, 4k"))


def test_breakdown_is_of_the_measuring_thread_alone() -> None:
    other = [TraceRecord(0.0000155, 8, 1, "pin_user_pages_fast", "")]
    mapped, unmapped = of_all([*MAP[:3], *other, *MAP[3:]])
    assert mapped.name == "map, 4K, 4k"
    assert mapped.whole_ns == 30_000
    assert mapped.share("data-page flush") == pytest.approx(0.2)
    assert sum(mapped.share(part.name) for part in mapped.parts) == pytest.approx(1)
    assert unmapped.parts == ()


def test_breakdowns_survive_their_file(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(breakdowns_document(of_all(MAP))))
    assert load_breakdowns(file) == of_all(MAP)
    assert load_breakdowns(file)[0].parts[0] == Part("pinning", 3000, 1)
    file.write_text("{}")
    with pytest.raises(ToolError, match="has no schema"):
        load_breakdowns(file)
