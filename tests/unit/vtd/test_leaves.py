# SPDX-License-Identifier: MIT
"""The leaf sizes in a page table that Linux 7.3 printed: two THPs, then three base pages."""

from pathlib import Path

import pytest

from iommufd_py.vtd import leaf_sizes, leaves, parse_leaf_sizes

DUMP = (Path(__file__).parent / "data" / "domain_translation_struct.txt").read_text().splitlines()
IOVA = 1 << 32
MIB = 1 << 20


def test_leaves_by_size() -> None:
    assert parse_leaf_sizes(DUMP, IOVA, 8 * MIB) == {4096: 3, 2 * MIB: 2}


def test_only_those_of_the_range() -> None:
    assert parse_leaf_sizes(DUMP, IOVA, 2 * MIB) == {2 * MIB: 1}
    assert parse_leaf_sizes(DUMP, IOVA + 4 * MIB + 4096, 4096) == {4096: 1}
    assert parse_leaf_sizes(DUMP, 0, IOVA) == {}


def test_a_device_without_a_dump_has_none() -> None:
    assert leaf_sizes("ffff:1f:1f.7", 0, 4096) is None


def test_large_range_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would print all leaves under the IOMMU's lock."""
    dump = tmp_path / "0000:00:10.0" / "domain_translation_struct"
    dump.parent.mkdir()
    dump.write_text("\n".join(DUMP))
    monkeypatch.setattr(leaves, "_DEBUGFS", tmp_path)
    assert leaf_sizes("0000:00:10.0", IOVA, leaves.MAX_BYTES) == {4096: 3, 2 * MIB: 2}
    assert leaf_sizes("0000:00:10.0", IOVA, leaves.MAX_BYTES + 1) is None
