# SPDX-License-Identifier: MIT
"""The texts about a comparison: cover letter, dialects, Markdown, findings."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iommufd_py.cli.bench.calibrate import _show, margin_sentence
from rich.console import Console
from rich.markdown import Markdown

from iommufd_py import FlushCount, ToolError
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.shown import display_width
from iommufd_py.results import compare_text, counts, cover_letter, dialects, finding, model, report, tables
from iommufd_py.results.compare import Comparison, compare, comparison_document
from iommufd_py.results.kcidb import bench_kcidb
from tests.unit.results.bench_results import POINT, boots_of, process_run, result, scaled


def test_cover_letter_fits_a_mail() -> None:
    before = scaled(0.99, 1.0, 1.01)
    patched, coherent = (scaled(f, f, f, kernel_variant=name) for f, name in ((1.5, "patched"), (1.0, "coherent")))
    coherent = replace(coherent, command=("iommufd", "x" * 30) * 3)
    text = cover_letter.cover_letter([before, patched, coherent], [compare(before, patched), compare(before, coherent)])
    assert all(len(line) <= 72 for line in text.splitlines())
    rows = [line.split() for line in text.splitlines()]
    assert ["stock", "patched", "coherent"] in rows
    assert ["map", "2", "us", "3", "us", "2", "us"] in rows
    assert ["x1.5", "slower", "x1.000", "open"] in rows
    assert "Cost: " in text
    assert "floor: an ioctl that does nothing takes 110 ns" in text


def test_cover_letter_with_chinese_names_fits_a_mail() -> None:
    names = ["\u5185\u6838" * 30, "\u4fee\u6b63 \u7248" * 9]
    before, after = (replace(scaled(f, f, f), name=name) for f, name in zip((1.0, 1.5), names, strict=True))
    text = cover_letter.cover_letter([before, after], [compare(before, after)])
    assert max(map(display_width, text.splitlines())) <= 72


def test_doubts_stand_under_the_cover_letter() -> None:
    doubtful = scaled(0.99, 1.0, 1.01, config={"IOMMUFD_TEST": "y"}, governor="powersave")
    text = " ".join(cover_letter.cover_letter([doubtful] * 2, [compare(doubtful, doubtful)]).split())
    assert "IOMMUFD_TEST_KERNEL: CONFIG_IOMMUFD_TEST adds checks" in text
    assert "GOVERNOR: " in text


def test_one_boot_prints_neither_interval_nor_its_legend() -> None:
    one = result(process_run([2000] * 3, [500] * 3))
    text = cover_letter.cover_letter([one, one], [compare(one, one)])
    assert "interval below" not in text
    assert "slower" not in text


def test_a_table_without_an_interval_does_not_explain_one() -> None:
    one = result(process_run([2000] * 3, [500] * 3))
    comparison = compare(one, one)
    assert "interval" not in compare_text.comparison_table(comparison).headings
    assert "confidence" not in compare_text.markdown(comparison, [])
    assert "interval" in compare_text.comparison_table(compare(scaled(1, 1, 1), scaled(1, 1, 1))).headings


def test_the_finding_names_each_row_that_is_not_precise_enough() -> None:
    rows = [1.0, 1.0, 1.0]
    source = random.Random(4)
    before, after = (boots_of(source, rows, boots=4, spread=0.0001) for _ in range(2))
    wide = boots_of(source, rows, boots=4, spread=0.05)
    one_wide = replace(after, rows=(after.rows[0], wide.rows[1], after.rows[2]))
    quality = finding.time_sentences([before, one_wide], [compare(before, one_wide)])[2]
    assert "not precise enough: stock non-coherent: map 8K, 4k, and the floor" in quality
    mixed = replace(after, rows=(after.rows[0], wide.rows[1], wide.rows[2]))
    comparison = compare(before, mixed)
    quality = finding.time_sentences([before, mixed], [comparison])[2]
    assert "not precise enough: stock non-coherent: all rows but map 4K, 4k, and the floor" in quality
    assert "not precise enough" not in finding.time_sentences([before, mixed], [comparison], 10.0)[2]
    assert "at most 1000% wide" in cover_letter.cover_letter([before, mixed], [comparison], precision=10.0)


def test_a_finding_gives_a_ratio_on_the_floor_without_it_too() -> None:
    before, after = scaled(0.11, 0.11, 0.11), scaled(0.33, 0.33, 0.33)
    cost = finding.time_sentences([before, after], [compare(before, after)])[0]
    assert "x3* (map 8K, 4k, x5 (5-5) without the floor)" in cost


def every_form(results: Sequence[model.BenchResult], comparison: Comparison) -> list[str]:
    table = compare_text.comparison_table(comparison)
    return [
        "\n".join([*tables.lines(table), *compare_text.verdict_lines(comparison)]),
        compare_text.markdown(comparison, []),
        cover_letter.cover_letter(results, [comparison]),
        dialects.iommupt(*results, comparison),
        dialects.vfio_tests(*results, comparison),
        json.dumps(bench_kcidb(results, [comparison])),
    ]


def test_figures_without_an_interval_support_no_finding() -> None:
    """One process against one other at 1.2 times the time "shows no change"."""
    alone, slower = result(process_run([2000] * 3)), result(process_run([2400] * 3))
    sentences = finding.time_sentences([alone, slower], [compare(alone, slower)])
    assert sentences[0].endswith("shows nothing, because none of 2 operations has an interval.")
    assert "2 of 2 intervals" not in sentences[2]
    assert "5% wide (without an interval: 2); not precise enough: stock non-coherent: all rows" in sentences[2]
    apart, close = scaled(0.8, 1.0, 1.2), scaled(0.9, 1.1, 1.3)
    assert finding.time_sentences([apart, close], [compare(apart, close)])[0].endswith(
        "has no operation of 2 that is surely slower or faster."
    )


def test_a_time_of_zero_is_named_in_the_cover_letter() -> None:
    nothing = result(*[process_run([0] * 3, [500] * 3)] * 3)
    text = cover_letter.cover_letter([nothing, nothing], [compare(nothing, nothing)])
    assert ["too", "short"] in [line.split() for line in text.splitlines()]
    assert "too short: a median is 0 ns" in text
    assert "VFIO MAP DMA in 0 s (- GB/s)" in dialects.vfio_tests(nothing, nothing, compare(nothing, nothing))
    assert "map, 8K, 4k: too short to time, so there is no ratio" in dialects.iommupt(
        nothing, nothing, compare(nothing, nothing)
    )


def test_each_form_has_a_ratio_on_the_floor_without_it_too() -> None:
    """The forms iommupt and kcidb have no column for the ratio without the floor."""
    before, after = scaled(0.11, 0.11, 0.11), scaled(0.33, 0.33, 0.33)
    comparison = compare(before, after)
    text = " ".join(dialects.iommupt(before, after, comparison).split())
    assert (
        "map, 8K, 4k: the floor is over 10 % of a time; the ratio of the medians is x3*, and x5 (5-5) without the floor"
        in text
    )
    comments = [test["comment"] for test in bench_kcidb([before, after], [comparison])["tests"]]
    assert comments[0] == "x3* (3-3) of stock non-coherent, slower, x5 (5-5) without the floor"
    short = scaled(0.05, 0.05, 0.05)
    comparison = compare(short, after)
    cost = finding.time_sentences([short, after], [comparison])[0]
    assert "x6.6* (map 8K, 4k, no ratio without the floor, which is as long as a time)" in cost
    for form in every_form([short, after], comparison):
        assert "?" not in form or "?: the floor is as long as a time" in " ".join(form.split())
    slow = scaled(9, 9, 9)
    assert "without the floor" not in dialects.iommupt(slow, slow, compare(slow, slow))


def test_each_form_names_the_kernels_devices_and_commands_of_all_results() -> None:
    """Only those of the last result were there, also if two releases were compared."""
    old = replace(
        scaled(*[1] * 5, kernel_release="7.2.1", compiler="gcc 12"),
        name="old one",
        command=("iommufd", "bench", "run", "--size", "8K"),
    )
    new = replace(scaled(1, 1, 1), name="new one", target=replace(old.target, device="0000:99:00.0"))
    comparison = compare(old, new)
    for form in (
        cover_letter.cover_letter([old, new], [comparison]),
        compare_text.markdown(comparison, cover_letter.conditions([old, new])),
        dialects.iommupt(old, new, comparison),
        dialects.vfio_tests(old, new, comparison),
        counts.count_letter([old, new]),
    ):
        lines = " ".join(form.split())
        assert "old one: kernel 7.2.1, built by gcc 12" in lines
        assert "new one: kernel 7.3.0" in lines
        assert "old one: device 0000:00:10.0 on" in lines and "new one: device 0000:99:00.0 on" in lines
        assert "old one: command: iommufd bench run --size 8K" in lines
        assert "new one: command: iommufd bench run" in lines
    text = " ".join(dialects.iommupt(old, new, comparison).split())
    assert "old one: avg: mean of 5 processes on one boot new one: avg: mean of 3 processes on one boot" in text
    alike = cover_letter.cover_letter([old, old], [compare(old, old)])
    assert "\nkernel 7.2.1, built by gcc 12\n" in alike and "old one: kernel" not in alike


def test_forms_without_a_verdict_end_with_the_finding() -> None:
    """A gain of -4.8 % stood there without a word, although the times support no change."""
    before, after = scaled(0.9, 1.0, 1.1), scaled(0.95, 1.05, 1.15)
    comparison = compare(before, after)
    assert not any(one.changed for one in comparison.changes)
    for form in (dialects.iommupt(before, after, comparison), dialects.vfio_tests(before, after, comparison)):
        text = " ".join(form.split())
        for sentence in finding.time_sentences([before, after], [comparison]):
            assert sentence in text
        assert "has no operation of 2 that is surely slower or faster" in text


def test_minima_stand_beside_the_averages() -> None:
    before, after = (result(*[process_run([low, 2000, 2000], [500] * 3)] * 3) for low in (1700, 1800))
    comparison = compare(before, after)
    table = compare_text.comparison_table(comparison)
    shown = dict(zip(table.headings, table.rows[0], strict=True))
    assert (shown["before"], shown["minima"]) == ("2 us", "1.7 us, 1.8 us")
    rows = [line.split() for line in cover_letter.cover_letter([before, after], [comparison]).splitlines()]
    assert ["min", "1.7", "us", "1.8", "us"] in rows


def test_many_axes_and_long_words_fit_a_mail() -> None:
    point = replace(
        POINT,
        backend=ContainerMode.VFIO_TYPE1V2,
        chunk_bytes=4096,
        bulk_unmap=True,
        hwpts=4,
        cache=model.CacheState.EVICTED,
        iova_use=model.IovaUse.FRESH,
        alignment=4096,
        huge_pages=False,
        accounting=model.Accounting.MM,
        threads=2,
        cpu=1,
        node=0,
    )
    one = replace(scaled(1, 1, 1, point=point), name="x" * 100)
    comparison = compare(one, one)
    for text in (
        cover_letter.cover_letter([one, one], [comparison]),
        dialects.iommupt(one, one, comparison),
        dialects.vfio_tests(one, one, comparison),
        counts.count_letter([one, one]),
    ):
        assert max(map(len, text.splitlines())) <= 72
    assert "8K, with backend vfio_type1v2, chunk 4K, bulk unmap on" in dialects.vfio_tests(one, one, comparison)
    for table in (report.times_table(one), report.buffers(one), compare_text.comparison_table(comparison)):
        parts = tables.fold(table)
        assert max(len(line) for part in parts for line in tables.lines(part)) <= 80
        # The number of the row joins the parts, each of which has all rows and only some columns.
        assert {part.headings[0] for part in parts} == {"row"}
        assert [heading for part in parts for heading in part.headings[1:]] == list(table.headings)
        assert [[row[0] for row in part.rows] for part in parts] == [["1", "2"][: len(table.rows)]] * len(parts)


def test_counts_stand_below_the_labels_of_their_results() -> None:
    one, other = (replace(scaled(1, 1, 1), name=name) for name in ("stock", "my series"))
    text = counts.count_letter([one, other])
    rows = [line.split() for line in text.splitlines()]
    assert ["ioctls", "leaves", "stock", "pages", "my", "pages"] in rows
    assert ["calls", "series"] in rows
    # A kernel without a counter can flush.
    assert "Flushes: not counted." in text
    runs = [process_run(flushes=(FlushCount(0, 0),) * 2)] * 3
    assert "Flushes: no operation flushes." in counts.count_letter([one, result(*runs)])


def test_the_form_vfio_tests_names_omitted_operations() -> None:
    """The form has no place for other operations than map and unmap."""
    one = result()
    attach = replace(
        one.rows[0],
        point=replace(POINT, workload=model.Workload.ATTACH),
        runs=tuple(
            replace(run, operations={"attach": run.operations["map"], "detach": run.operations["unmap"]})
            for run in one.rows[0].runs
        ),
    )
    more = replace(one, rows=(*one.rows, attach))
    assert "Left out: 2 operations other than map and unmap." in dialects.vfio_tests(more, more, compare(more, more))
    assert "Left out" not in dialects.vfio_tests(one, one, compare(one, one))
    alone = replace(one, rows=(attach,))
    with pytest.raises(ToolError, match=r"has no map or unmap to compare .*: choose another format"):
        dialects.vfio_tests(alone, alone, compare(alone, alone))


def test_iommupt_rows_have_the_form_of_the_kernel_s_own() -> None:
    """The row of the cover letter of generic_pt, whose percentage is cut to two digits."""
    before, after = (
        result(process_run([low, high], [1, 1], pinned=4096), point=replace(POINT, size_bytes=4096))
        for low, high in ((63, 69), (51, 55))
    )
    text = dialects.iommupt(before, after, compare(before, after))
    assert "   pgsz  ,avg new,old ns, min new,old ns  , min % (+ve is better)" in text
    assert "     2^12,     53,66    ,      51,63      ,  19.05" in text.splitlines()


@pytest.mark.parametrize(
    ("distance", "end", "words"),
    [
        (0.01, 0.019, "it holds here"),
        (0.01, 0.5, "take more boots"),
        (0.01, None, "take more boots"),
        (0.03, 0.05, "it is too small here"),
    ],
)
def test_a_margin_holds_if_the_intervals_lie_within_it(distance: float, end: float | None, words: str) -> None:
    assert words in margin_sentence(distance, end)


def test_a_calibration_has_the_doubts_of_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Its table had marks of the floor without a legend, and a busy machine was no doubt."""
    noise = model.Noise(steal=0.3, switches=0, waiting=0, clock_jump=0, slowdown=1)
    first, second = (replace(result(*[process_run(noise=noise)] * 3), name=name) for name in ("first", "second"))
    _show(first, second)
    shown = " ".join(capsys.readouterr().out.split())
    assert "*: the floor, an ioctl that does nothing" in shown
    assert "NOISE: the machine was busy" in shown
    assert "The margin of equivalence is 2%: it holds here." in shown


def test_markdown_and_json_have_every_row() -> None:
    comparison = compare(scaled(0.99, 1.0, 1.01), scaled(1.49, 1.5, 1.51))
    assert sum(line.startswith("|") for line in compare_text.markdown(comparison, []).splitlines()) == 4
    (kept,) = comparison_document([comparison], [])["comparisons"]
    assert [change["verdict"] for change in kept["changes"]] == ["slower", "slower"]
    json.dumps(kept, allow_nan=False)


@given(st.text(alphabet="ab \u5185\u6838\U0001f680e\u0301", max_size=300), st.integers(20, 80))
def test_no_line_is_wider_than_the_page(text: str, width: int) -> None:
    """A Chinese character takes two columns."""
    for line in tables.wrapped(text, width):
        assert display_width(line) <= width


def test_columns_with_wide_characters_are_straight() -> None:
    table = tables.Table(("row", "\u5185\u6838 before"), (("4K", "5 us"), ("\u5185\u6838", "12 us")))
    assert [display_width(line) for line in tables.lines(table)] == [17, 17, 17]
    wide = tables.Table(("row", *("\u5185\u6838" * 5,) * 4), (("4K", *("1",) * 4),))
    parts = tables.fold(wide, 72)
    assert [len(part.headings) for part in parts] == [4, 2]
    assert all(display_width(line) <= 72 for part in parts for line in tables.lines(part))


def test_a_saved_flush_keeps_its_sign_in_every_form() -> None:
    before, after = scaled(1.49, 1.5, 1.51, flush_ns=(400,)), scaled(1, 1, 1, flush_ns=(400,))
    comparison = compare(before, after)
    table = compare_text.comparison_table(comparison)
    assert dict(zip(table.headings, table.rows[0], strict=True))["F"] == "-2.65 (-2.95 to -2.35)"
    rows = [line.split() for line in cover_letter.cover_letter([before, after], [comparison]).splitlines()]
    assert ["F", "-2.65"] in rows
    assert ["-2.95", "to", "-2.35"] in rows


@pytest.mark.parametrize(
    ("factor", "end", "verdict"), [(1.003, "1.018", "equivalent"), (1.0075, "1.023", "inconclusive")]
)
def test_a_reader_can_check_a_verdict_by_its_interval(factor: float, end: str, verdict: str) -> None:
    """With three digits, both ends would be 1.02, and the margin is 2 %."""
    spread = (0.996, 1.0, 1.004)
    comparison = compare(scaled(*spread), scaled(*(factor * one for one in spread)))
    table = compare_text.comparison_table(comparison)
    shown = dict(zip(table.headings, table.rows[0], strict=True))
    assert (shown["interval"].partition("-")[2], shown["verdict"]) == (end, verdict)


def test_a_label_is_text_in_markdown() -> None:
    """A label <b> vanished in the rendered page, and one with two underscores lost them."""
    labels = "# a <b>_x_", "`c`|[d](e)*f*&lt;"
    before, after = (replace(scaled(f, f, f), name=name) for f, name in zip((1.0, 1.5), labels, strict=True))
    comparison = compare(before, after)
    text = compare_text.markdown(comparison, cover_letter.conditions([before, after]))
    page = Console(width=200, file=StringIO())
    page.print(Markdown(text.partition("\n\n")[2]))
    shown = page.file.getvalue()  # type: ignore[attr-defined]
    assert "# a <b>_x_: VFIO_DMA_CC_IOMMU=0; 3 processes on one boot" in shown
    assert "after: `c`|[d](e)*f*&lt;" in shown


def test_a_margin_is_told_as_it_was_given() -> None:
    """A margin of 2.5 % was one of 2 %, and one of 0.4 % was "within 0%"."""
    one = scaled(1, 1, 1)
    for margin, shown in ((0.02, "2%"), (0.025, "2.5%"), (0.004, "0.4%"), (0.5, "50%")):
        comparison = compare(one, one, margin=margin)
        letter = cover_letter.cover_letter([one, one], [comparison], precision=margin)
        assert f"is equivalent within {shown} in 2 of 2" in " ".join(letter.split())
        assert f"the whole interval lies within {shown} of 1" in letter
        assert f"2 of 2 intervals are at most {shown} wide" in letter
        assert f"equivalent: the whole interval lies within {shown} of 1" in compare_text.verdict_lines(comparison)
