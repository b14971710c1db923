# SPDX-License-Identifier: MIT
"""Quantiles, summaries and the end of a warm-up."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.results.stats import quantile, settled, summarize


@given(st.lists(st.integers(0, 1 << 40), min_size=2))
def test_quantiles_are_those_of_the_standard_library(samples: list[int]) -> None:
    percentiles = statistics.quantiles(samples, n=100, method="inclusive")
    ordered = sorted(samples)
    assert quantile(ordered, 0.5) == pytest.approx(statistics.median(samples))
    assert quantile(ordered, 0.99) == pytest.approx(percentiles[98])
    assert quantile(ordered, 0) == min(samples)
    assert quantile(ordered, 1) == max(samples)


def test_no_samples_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_summary_takes_samples_in_any_order_and_keeps_the_processes_apart() -> None:
    summary = summarize([[3000, 1000, 2000], [5000, 4000, 6000]])
    assert (summary.count, summary.min_ns, summary.median_ns, summary.max_ns) == (6, 1000, 3500, 6000)
    assert summary.run_medians_ns == (2000, 5000)
    assert (summary.low_ns, summary.high_ns) == (2000, 5000)


def test_outliers_are_counted_and_not_dropped() -> None:
    summary = summarize([[10, 11, 12, 13, 14, 1000]])
    assert (summary.outliers, summary.count, summary.max_ns) == (1, 6, 1000)


def test_a_warm_up_is_over_when_two_blocks_agree() -> None:
    assert settled([100, 101, 5000], [101, 102, 100])
    assert not settled([110, 111, 112], [100, 101, 102])
