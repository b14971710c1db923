# SPDX-License-Identifier: MIT
"""The pictures contain the measured values. Their look is for people to judge."""

import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from iommufd_py import ToolError
from iommufd_py.results import cover_letter, model, plot
from iommufd_py.results.compare import compare
from iommufd_py.results.history import change_points, over_time
from iommufd_py.results.html import page
from iommufd_py.results.report import row_name
from tests.unit.bench.test_trace import MAP, of_all
from tests.unit.results.bench_results import POINT, process_run, result, scaled

SIZES = (4096, 2 << 20, 256 << 20)


def measured(factor: float = 1.0, **environment: object) -> model.BenchResult:
    source = random.Random(1)
    one = result(**environment)
    rows = []
    for size in SIZES:
        median = (2000 + size // 200) * factor
        runs = []
        for _ in range(5):
            map_ns, unmap_ns = (
                [round(median * part * source.lognormvariate(0, 0.1)) for _ in range(50)] for part in (1, 0.6)
            )
            runs.append(process_run(map_ns, unmap_ns, pinned=size))
        rows.append(replace(one.rows[0], point=replace(POINT, size_bytes=size), runs=tuple(runs)))
    return replace(one, rows=tuple(rows))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def test_a_picture_names_the_machine_and_the_limits_of_its_figures() -> None:
    doubtful = measured(config={"IOMMUFD_TEST": "y"})
    comparison = compare(doubtful, doubtful)
    for figure in (
        plot.page_figure([doubtful]),
        plot.distribution_figure([doubtful]),
        plot.change_figure(comparison, [doubtful, doubtful]),
    ):
        title = figure.get_suptitle()
        assert "CPU, bare metal, kernel 7.3.0" in title
        assert "2026-01-01" in title
        assert "IOMMUFD_TEST_KERNEL" in title
    newer = replace(measured(kernel_release="7.4.0"), started="2026-02-01T00:00:00+00:00")
    title = plot.page_figure([doubtful, newer]).get_suptitle()
    assert "kernel 7.3.0 to 7.4.0" in title
    assert "2026-01-01 to 2026-02-01" in title
    # With --force, the machines can differ.
    elsewhere = measured(cpu="Other", platform="virtual machine")
    assert (
        "CPU, bare metal to Other, virtual machine, kernel 7.3.0"
        in plot.page_figure([doubtful, elsewhere]).get_suptitle()
    )


def test_a_picture_explains_its_bars_and_lines_if_it_has_some() -> None:
    """Nothing told that a line is an interval of 99 %, and a bar the range of the medians of the processes."""
    alone = result(process_run([1000] * 3))
    for one, is_shown in ((measured(), True), (alone, False)):
        title = plot.page_figure([one]).get_suptitle().replace("\n", " ")
        assert ("bar: lowest to highest median of a process" in title) is is_shown
        title = plot.change_figure(compare(one, one)).get_suptitle().replace("\n", " ")
        assert ("(line: interval of 99%)" in title) is is_shown


def test_nothing_to_draw_is_one_sentence() -> None:
    with pytest.raises(ToolError, match="nothing to draw"):
        plot.page_figure([replace(result(), rows=())])


def test_a_page_has_the_command_that_repeats_the_run() -> None:
    one = replace(result(), command=("/usr/bin/iommufd", "bench", "run", "--label", "two words"))
    assert "<dd>iommufd bench run --label &#x27;two words&#x27;</dd>" in page([one])


def test_a_page_without_a_ratio_has_all_other_parts() -> None:
    """Operations of 0 ns have no ratio. This picture was missing, and with it the whole page."""
    short = result(process_run([0] * 3, [0] * 3))
    comparison = compare(short, short)
    assert not comparison.has_ratios
    text = page([short, short], [comparison])
    assert "No picture: no operation has a ratio" in text
    assert "Distribution of the times" in text
    assert "<svg" in text


def test_distribution_shows_every_sample() -> None:
    figure = plot.distribution_figure([measured()])
    assert [axes.get_title() for axes in figure.axes] == ["map", "unmap"]
    for axes in figure.axes:
        assert [len(line.get_xdata()) for line in axes.get_lines()] == [250, 250, 250, 2]
        assert list(axes.get_lines()[-1].get_xdata()) == [110, 110]
    assert legend(figure) == ["4K, 4k", "2M, 4k", "256M, 4k", "floor"]


def test_a_legend_shows_the_look_of_the_curves_in_all_panels() -> None:
    """The panels share a legend, but an attach is another point than a map of the same size."""
    rows = [
        replace(
            row,
            point=replace(row.point, workload=workload),
            runs=tuple(
                replace(run, operations={first: run.operations["map"], second: run.operations["unmap"]})
                for run in row.runs
            ),
        )
        for workload, first, second in (
            (model.Workload.MAP, "map", "unmap"),
            (model.Workload.ATTACH, "attach", "detach"),
        )
        for row in measured().rows
    ]
    figure = plot.distribution_figure([replace(measured(), rows=tuple(rows))])
    looks = [[(line.get_label(), line.get_color(), line.get_marker()) for line in axes.lines] for axes in figure.axes]
    assert looks[0] == looks[1] == looks[2] == looks[3]
    # In grey, two of the colours are alike.
    assert len({marker for _, _, marker in looks[0]}) == len(looks[0])


def test_limits_stand_in_words_below_a_picture_and_leave_it_its_room() -> None:
    doubtful = measured(config={"IOMMUFD_TEST": "y"})
    limits = cover_letter.doubts([doubtful])
    for figure in (plot.page_figure([doubtful]), plot.change_figure(compare(doubtful, doubtful), [doubtful])):
        plot.add_limits(figure, limits)
        figure.draw_without_rendering()
        (text,) = (one for one in figure.texts if "adds checks" in one.get_text())
        (keys,) = figure.legends
        boxes = [text.get_window_extent(), keys.get_window_extent(), *(axes.get_tightbbox() for axes in figure.axes)]
        assert boxes[0].y0 >= 0
        assert boxes[0].y1 <= boxes[1].y0
        assert all(boxes[1].y1 <= one.y0 for one in boxes[2:])


def test_page_figure_has_a_point_for_each_size() -> None:
    both = [measured(), measured(2, kernel_variant="patched")]
    figure = plot.page_figure(both)
    assert sorted(legend(figure)) == ["floor", "patched non-coherent: 4k", "stock non-coherent: 4k"]
    for axes in figure.axes:
        before, after = (container.lines[0] for container in axes.containers)
        assert tuple(before.get_xdata()) == pytest.approx(SIZES, rel=0.05)
        assert all(a > b for a, b in zip(after.get_ydata(), before.get_ydata(), strict=True))


def test_many_series_of_one_size_are_told_apart() -> None:
    """Their points hid each other, and the ninth series had the colour and the marker of the first."""
    rows = tuple(replace(measured().rows[0], point=replace(POINT, backing=f"kind-{number}")) for number in range(6))
    results = [replace(measured(), name=name, rows=rows) for name in ("one", "two", "three", "four", "five")]
    for axes in plot.page_figure(results).axes:
        points = [container.lines[0] for container in axes.containers]
        places = [one.get_xdata()[0] for one in points]
        assert len(set(places)) == len(points) == 30
        assert POINT.size_bytes / 1.5 < min(places) < max(places) < POINT.size_bytes * 1.5
        assert len({(one.get_color(), one.get_marker()) for one in points}) == 30
        # In grey, some of the colours are alike.
        assert len({(one.get_marker(), one.get_linestyle()) for one in points}) == 30
    for axes in plot.distribution_figure(results).axes:
        curves = axes.get_lines()[:30]
        assert len({(one.get_color(), one.get_marker(), one.get_linestyle()) for one in curves}) == 30


def labels_below(figure: Figure) -> list[list[str]]:
    """Return the labels of the horizontal axis of each panel, which must not overlap."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        boxes = [(one.get_window_extent(), one.get_text()) for one in axes.get_xticklabels() if one.get_text()]
        shown = [(one, text) for one, text in boxes if axes.bbox.x0 <= (one.x0 + one.x1) / 2 <= axes.bbox.x1]
        assert all(left.x1 < right.x0 for (left, _), (right, _) in pairwise(shown))
        found.append([text for _, text in shown])
    return found


@pytest.mark.parametrize("most", [10**4, 10**6, 10**8, 10**10])
def test_the_labels_of_times_do_not_overlap(most: int) -> None:
    figure = plot.distribution_figure([result(process_run([1000, 1100, most], [1000, 1100, most]))])
    assert min(map(len, labels_below(figure))) >= 2


@pytest.mark.parametrize("factor", [1.01, 3, 8, 25, 200, 900, 10**5, 10**9])
def test_the_labels_of_ratios_do_not_overlap(factor: float) -> None:
    """A long axis had labels upon labels, such as x1e+03, a longer one had none, and two labels near 1 were equal."""
    (labels,) = labels_below(plot.change_figure(compare(scaled(1, 1, 1), scaled(factor, factor, factor))))
    assert len(set(labels)) == len(labels) >= 2
    assert "e+" not in "".join(labels)


@pytest.mark.parametrize(
    ("sizes", "labels"),
    [
        ((12288,), ["12K"]),
        ((4096, 65536, 2 << 20, 1 << 30), ["4K", "64K", "2M", "1G"]),
        (range(4096, 4096 * 40, 4096), ["4K", "8K", "16K", "32K", "64K", "128K"]),
    ],
)
def test_the_labels_of_sizes_are_the_measured_sizes_if_there_is_room(sizes: Sequence[int], labels: list[str]) -> None:
    """An axis from 12K to 12K had no label, because no power of two is there."""
    row = result().rows[0]
    rows = tuple(replace(row, point=replace(POINT, size_bytes=size)) for size in sizes)
    for found in labels_below(plot.page_figure([replace(result(), rows=rows)])):
        assert found == labels


def test_a_floor_that_marks_a_ratio_is_in_the_picture() -> None:
    """The axis began at a fifth of the shortest time, and a floor over a tenth of it marks a ratio."""
    before, after = (result(*[process_run([900, 1000], [900, 1000], ioctl_ns=120.0, clock_ns=20.0)] * 3) for _ in "12")
    assert all(change.on_floor for change in compare(before, after).changes)
    for axes in plot.page_figure([before, after]).axes:
        (floor,) = {line.get_ydata()[0] for line in axes.get_lines() if line.get_label() == "floor"}
        assert floor > axes.get_ylim()[0]


def test_change_figure_has_a_line_for_each_operation() -> None:
    comparison = compare(measured(), measured(2, kernel_variant="patched"))
    (axes,) = plot.change_figure(comparison).axes
    assert len(axes.get_yticklabels()) == len(comparison.changes) == 6


def test_change_figure_marks_the_floor_and_shows_the_ratio_without_it() -> None:
    changes = compare(scaled(0.1, 0.11, 0.12), scaled(0.3, 0.33, 0.36))
    (axes,) = (figure := plot.change_figure(changes)).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["map, 8K, 4k *", "unmap, 8K, 4k *"]
    assert {"*: the floor is over 10 %", "less the floor"} <= set(legend(figure))
    net = changes.changes[0].net
    assert net is not None
    drawn = [list(line.get_xdata()) for line in axes.get_lines()]
    assert [net.value] in drawn and [net.low, net.high] in drawn
    # The floor is as long as the time of the unmap, 55 ns, so there is no ratio without it.
    assert changes.changes[1].net is None
    (axes,) = (figure := plot.change_figure(compare(scaled(1, 1, 1), scaled(2, 2, 2)))).axes
    assert "map, 8K, 4k" in [text.get_text() for text in axes.get_yticklabels()]


def test_a_history_marks_the_changes_that_were_found() -> None:
    """The picture asks when an operation became slower. Nothing told a found change from a step by chance."""
    results = [scaled(factor, factor, factor) for factor in (1, 1.001, 0.999, 1.3, 1.301, 1.299)]
    lines = [one for one in over_time(results) if one.operation == "map"]
    steady = [replace(lines[0], operation="unmap", ns=(500.0,) * len(results))]
    found = change_points([*lines, *steady])
    figure = plot.history_figure([*lines, *steady], results, found)
    (axes,) = figure.axes
    (mark,) = (one for one in axes.get_lines() if one.get_label() == "change")
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([3], [pytest.approx(1.3)])
    assert "change" in legend(figure)
    assert "change" not in legend(plot.history_figure(steady, results, change_points(steady)))


def test_shares_fill_the_bar() -> None:
    figure = plot.share_figure([one for one in of_all(MAP) if one.parts])
    (axes,) = figure.axes
    assert sum(patch.get_width() for patch in axes.patches) == 1


@pytest.mark.slow
def test_picture_is_the_same_each_time() -> None:
    first, second = (plot.render(plot.page_figure([measured()]), "svg") for _ in range(2))
    assert first == second
    ElementTree.fromstring(first)
    assert plot.render(plot.page_figure([measured()]), "png").startswith(b"\x89PNG")


@pytest.mark.slow
def test_page_loads_nothing_and_is_well_formed() -> None:
    before, after = measured(), measured(2, kernel_variant="<patched>")
    text = page([before, after], [compare(before, after)], [one for one in of_all(MAP) if one.parts])
    open_tags: list[str] = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "path", "use"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

    Balanced().feed(text)
    assert open_tags == []
    assert text.count("<svg") == 4
    assert "&lt;patched&gt; non-coherent" in text
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)', text)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")  # matplotlib warns if a text leaves no room for the panels.
@pytest.mark.parametrize("name", ["$\\frac{$ and $x_{$", "_hidden", "x" * 1000, "a\\$b", "50 % of $5"])
def test_every_name_is_text_in_a_picture(name: str) -> None:
    one, other = replace(measured(cpu=name), name=name), replace(measured(1.2), name="other")
    figures = [
        plot.distribution_figure([one, other]),
        plot.page_figure([one, other]),
        plot.change_figure(compare(one, other, force=True), [one, other]),
    ]
    for figure in figures:
        plot.add_limits(figure, [f"{name}: a limit"])
        assert plot.render(figure, "png")
        title = figure.get_suptitle().replace("\n", "")
        assert title.count("x") >= 200 if len(name) == 1000 else name in title
    for figure in figures[:2]:
        named = [text.strip() for text in legend(figure) if not text.startswith("other")]
        assert any(text.startswith(name[:30]) for text in named), named
        assert all(len(text) < 150 for text in named)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")  # matplotlib warns of a character without a glyph.
@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("\u6f22\u5b57", "\\u6f22\\u5b57"),
        ("\U0001f680 fast", "\\U0001f680 fast"),
        ("u\u0308ber", "\u00fcber"),
        ("a" + "\u0301" * 500, "\u00e1\\u0301\\u0301"),
        ("\u3164", "\\u3164"),
    ],
)
def test_a_character_that_the_font_lacks_is_an_escape(name: str, drawn: str) -> None:
    one, other = replace(measured(cpu=name), name=name), replace(measured(1.2), name="other")
    shares = [replace(found, name=name) for found in of_all(MAP) if found.parts]
    for figure in (
        plot.distribution_figure([one, other]),
        plot.page_figure([one, other]),
        plot.change_figure(compare(one, other, force=True), [one, other]),
        plot.share_figure(shares),
    ):
        plot.add_limits(figure, [f"{name}: a limit"])
        assert plot.render(figure, "svg")
        assert drawn in "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("name", ["w" * 150, "word " * 30])
def test_the_title_fits_into_the_picture(name: str) -> None:
    one, other = (replace(measured(), name=f"{name} {number}") for number in (1, 2))
    figure = plot.change_figure(compare(one, other), [one, other])
    figure.draw_without_rendering()
    (title,) = (text for text in figure.texts if "slower than" in text.get_text().replace("\n", " "))
    assert title.get_window_extent().width <= figure.bbox.width


LONG_POINT = model.Point(
    model.Workload.MAP,
    1 << 20,
    "hugetlb-2m",
    chunk_bytes=4096,
    bulk_unmap=True,
    hwpts=2,
    cache=model.CacheState.EVICTED,
    iova_use=model.IovaUse.FRESH,
    alignment=1 << 16,
    huge_pages=False,
    accounting=model.Accounting.USER,
    threads=4,
    own_ioas=True,
    cpu=3,
    node=1,
)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_rows_with_long_names_fit_into_a_picture() -> None:
    """A row has a value for each option of `bench run` that the user gave."""
    one, other = (
        replace(found, name="x" * 60, rows=(*found.rows, replace(found.rows[0], point=LONG_POINT)))
        for found in (measured(), measured(1.2))
    )
    lines = over_time([one, other])
    shares = [replace(found, name=row_name(LONG_POINT)) for found in of_all(MAP) if found.parts]
    for figure in (
        plot.distribution_figure([one, other]),
        plot.page_figure([one, other]),
        plot.change_figure(compare(one, other), [one, other]),
        plot.share_figure(shares),
        plot.history_figure(lines, [one, other], []),
    ):
        plot.add_limits(figure, ["a limit"])
        figure.draw_without_rendering()
        whole = figure.bbox
        for part in (*figure.legends, *figure.axes):
            box = part.get_tightbbox()
            assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1, part
        (keys,) = (one.get_window_extent() for one in figure.legends)
        assert all(keys.y1 <= axes.get_tightbbox().y0 for axes in figure.axes)
