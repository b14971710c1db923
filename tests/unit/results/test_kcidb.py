# SPDX-License-Identifier: MIT
"""The KCIDB report on a comparison: each object has an id of its own, and refers to one that exists."""

from dataclasses import replace

import kcidb_io

from iommufd_py.results.compare import compare
from iommufd_py.results.kcidb import bench_kcidb
from tests.unit.results.bench_results import result

LABELS = ("base", "a b", "a#b", "\u4e00", "\u4e8c")


def test_labels_and_releases_that_differ_in_odd_characters_have_ids_of_their_own() -> None:
    """`uname -r` of a kernel tree with changes ends with a plus."""
    releases = ("7.3.0", "7.3.0+", "7.3.0-", "7.3.0", "7.3.0+")
    results = [
        replace(result(kernel_release=release), name=label) for label, release in zip(LABELS, releases, strict=True)
    ]
    found = bench_kcidb(results, [compare(results[0], one) for one in results[1:]])
    assert kcidb_io.schema.V5_3.is_valid(found)
    for kind, expected in (("checkouts", 3), ("builds", 5), ("tests", 8)):
        assert len({one["id"] for one in found[kind]}) == len(found[kind]) == expected
    assert {one["checkout_id"] for one in found["builds"]} == {one["id"] for one in found["checkouts"]}
    assert {one["build_id"] for one in found["tests"]} == {one["id"] for one in found["builds"][1:]}


def test_another_measurement_has_other_ids() -> None:
    """KCIDB keeps the reports of all runs together."""
    before, after = result(), result(kernel_variant="patched")
    again = replace(after, started="2026-01-02T00:00:00+00:00")
    first, second = (bench_kcidb([before, one], [compare(before, one)]) for one in (after, again))
    assert first["builds"][0] == second["builds"][0]
    for kind in ("builds", "tests"):
        assert first[kind][-1]["id"] != second[kind][-1]["id"]
