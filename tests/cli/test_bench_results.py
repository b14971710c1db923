# SPDX-License-Identifier: MIT
"""`iommufd bench` on existing results, as people and CI use it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import kcidb_io
import pytest

from iommufd_py.results import document
from tests.unit.results.bench_results import process_run, result
from tests.waiting import patience

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stock(tmp_path: Path) -> str:
    file = tmp_path / "stock.json"
    document.save(result(*(process_run([one] * 3, [one] * 3) for one in (990, 1000, 1010))), file)
    return str(file)


@pytest.fixture
def patched(tmp_path: Path) -> str:
    file = tmp_path / "patched.json"
    runs = (process_run([one] * 3, [one] * 3) for one in (1490, 1500, 1510))
    document.save(result(*runs, kernel_variant="patched"), file)
    return str(file)


@pytest.mark.parametrize("name", ["stock.json", "link.html", "./../{}/stock.json"])
def test_a_plot_does_not_replace_its_input(cli: Cli, stock: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.html").symlink_to(stock)
    before = Path(stock).read_bytes()
    done = cli("bench", "plot", stock, "--html", str(tmp_path / name.format(tmp_path.name)))
    assert done.returncode == 1
    assert "is also an input" in done.stderr
    assert Path(stock).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("history", "DIRECTORY", "--output", "FILE"), "x.svg"),
        (("plot", "STOCK", "--directory", "DIRECTORY"), "page.svg"),
    ],
    ids=["history", "plot"],
)
def test_a_picture_does_not_replace_its_input(
    cli: Cli, stock: str, tmp_path: Path, words: tuple[str, ...], name: str
) -> None:
    (tmp_path / name).symlink_to(stock)
    before = Path(stock).read_bytes()
    places = {"DIRECTORY": str(tmp_path), "FILE": str(tmp_path / name), "STOCK": stock}
    done = cli("bench", *(places.get(word, word) for word in words))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is also an input" in done.stderr
    assert Path(stock).read_bytes() == before
    assert not (tmp_path / "distribution.svg").exists()


def test_show_prints_the_figures_and_where_they_come_from(cli: Cli, stock: str) -> None:
    done = cli("bench", "show", stock)
    assert done.returncode == 0
    assert "kernel:    7.3.0 stock" in done.stdout
    assert "coherency: non-coherent by VFIO_DMA_CC_IOMMU=0" in done.stdout
    summary = json.loads(cli("bench", "show", stock, "--json").stdout)
    assert summary["schema"] == "iommufd-bench-summary/1"
    assert [row["median_ns"] for row in summary["rows"]] == [1000, 1000]


@pytest.mark.parametrize("without", ["rows", "runs", "times"])
def test_a_result_without_times_says_so(cli: Cli, tmp_path: Path, without: str) -> None:
    file = tmp_path / "1.json"
    some = result(*(process_run([0] * 3, [0] * 3) for _ in range(3)))
    rows = {"rows": (), "runs": (replace(some.rows[0], runs=()),), "times": some.rows}[without]
    document.save(replace(some, rows=rows), file)
    done = cli("bench", "show", str(file))
    assert done.returncode == 0
    assert ("no row has samples" in done.stdout) == (without != "times")
    assert ("median of all samples" in done.stdout) == (without == "times")
    done = cli("bench", "export", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is nothing to export: the result has no operation with a time above 0 ns" in done.stderr
    done = cli("bench", "history", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no history: its results have no operation with a time above 0 ns" in done.stderr


def test_a_dash_is_standard_input(cli: Cli, stock: str) -> None:
    text = Path(stock).read_text()
    assert cli("bench", "show", "-", input=text).stdout == cli("bench", "show", stock).stdout
    assert cli("bench", "compare", stock, "-", input=text).returncode == 0
    for again in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
        done = cli("bench", "compare", "-", again, input=text)
        assert done.returncode == 2
        assert done.stderr.endswith("Error: standard input (-) is given twice, and can be read only once\n")
    wrong = cli("bench", "show", "-", input="{")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("iommufd: error: /dev/stdin lacks its end")


def test_threshold_decides_the_exit_status(cli: Cli, stock: str, patched: str) -> None:
    assert cli("bench", "compare", stock, patched).returncode == 0
    assert cli("bench", "compare", stock, patched, "--threshold", "60").returncode == 0
    done = cli("bench", "compare", stock, patched, "--threshold", "10")
    assert done.returncode == 1
    assert "slower" in done.stdout
    assert done.stderr == ""
    # A faster row is no failure.
    assert cli("bench", "compare", patched, stock, "--threshold", "10").returncode == 0


def test_threshold_without_an_interval_decides_nothing(cli: Cli, stock: str, tmp_path: Path) -> None:
    """One process on each side gave status 0, so the gate passed any slowdown."""
    slow = tmp_path / "slow.json"
    document.save(result(process_run([9000] * 3, [9000] * 3), kernel_variant="patched"), slow)
    done = cli("bench", "compare", stock, str(slow), "--threshold", "10")
    assert done.returncode == 4
    assert "too few runs" in done.stdout
    assert done.stderr.startswith("iommufd: skipped: no row has an interval, so the threshold decides nothing: ")
    assert cli("bench", "compare", stock, str(slow)).returncode == 0


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "inconclusive"),
        ("markdown", "| --- |"),
        ("cover-letter", "open: the samples show neither"),
        ("iommupt", "   pgsz  ,avg new,old ns, min new,old ns  , min % (+ve is better)"),
        ("vfio-tests", "------- AVERAGE (MAP_POPULATE) --------"),
        ("kcidb", '"origin": "iommufd_py"'),
        ("json", '"schema": "iommufd-bench-compare/1"'),
    ],
)
def test_every_format_is_printed(cli: Cli, stock: str, form: str, expected: str) -> None:
    done = cli("bench", "compare", stock, stock, "--format", form)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_another_machine_is_refused_in_one_sentence(cli: Cli, stock: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    document.save(result(cpu="Other"), file)
    done = cli("bench", "compare", stock, stock, str(file))
    assert done.returncode == 1
    first, other = f"stock non-coherent ({stock}, 1)", "stock non-coherent (other.json)"
    assert done.stderr.startswith(
        f"iommufd: error: the results cannot be compared, {first} and {other} differ in CPU (CPU and Other); "
    )
    document.save(result(cpu=""), file)
    assert "differ in CPU (CPU and unknown); " in cli("bench", "compare", stock, str(file)).stderr
    document.save(replace(result(), rows=()), file)
    done = cli("bench", "compare", stock, stock, str(file))
    assert done.stderr.startswith(f"iommufd: error: the results cannot be compared, {first} and {other} have no row")
    document.save(result(cpu="Other"), file)
    assert cli("bench", "compare", stock, str(file), "--force").returncode == 0


def test_plot_writes_pictures_and_the_page(cli: Cli, stock: str, patched: str, tmp_path: Path) -> None:
    pictures, page = tmp_path / "pictures", tmp_path / "report.html"
    done = cli("bench", "plot", stock, patched, "--directory", str(pictures), "--format", "png", "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in pictures.iterdir()) == ["change-1.png", "distribution.png", "page.png"]
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert cli("bench", "plot", stock).returncode == 2


def test_plot_draws_the_pictures_that_there_can_be(cli: Cli, tmp_path: Path) -> None:
    file, pictures = tmp_path / "short.json", tmp_path / "pictures"
    document.save(result(process_run([0] * 3, [0] * 3)), file)
    done = cli("bench", "plot", str(file), str(file), "--directory", str(pictures))
    assert done.returncode == 0, done.stderr
    assert "all operations are too short to time" in done.stderr
    assert sorted(one.name for one in pictures.iterdir()) == ["distribution.svg", "page.svg"]


def test_a_file_can_be_named_like_standard_output(
    cli: Cli, stock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("bench", "plot", stock, "--html", "./-")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "-").read_text().startswith("<!DOCTYPE html>")


def test_export_is_read_by_pyperf(cli: Cli, stock: str, tmp_path: Path) -> None:
    file = tmp_path / "pyperf.json"
    file.write_text(cli("bench", "export", stock).stdout)
    command = [str(Path(sys.executable).parent / "pyperf"), "stats", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, done.stderr
    assert "map: 8K, 4k" in done.stdout
    assert re.search(r"Median \+- MAD: +1.00 us", done.stdout)


def test_nothing_to_time_is_wrong_usage(cli: Cli) -> None:
    done = cli("bench", "run", "--device", "mock", "--size", "4K", "--backing", "thp")
    assert done.returncode == 2
    assert "4K is not a multiple of the 2M pages of thp" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "STOCK", "STOCK", "--threshold", "nan"),
        ("compare", "STOCK", "STOCK", "--threshold", "inf"),
        ("compare", "STOCK", "STOCK", "--json", "--format", "markdown"),
        ("compare", "STOCK", "STOCK", "--json", "--format", "table"),
        ("compare", "STOCK", "STOCK", "--margin", "5", "--format", "iommupt"),
        ("compare", "STOCK", "STOCK", "--margin", "5", "--format", "vfio-tests"),
        ("show", ""),
        ("plot", "STOCK", "--html", ""),
        ("plot", "STOCK", "--directory", ""),
        ("run", "--device", "mock", "--output", ""),
        ("run", "--device", "mock", "--output", "/"),
        ("run", "--device", "mock", "--seconds", "nan"),
        ("run", "--device", "mock", "--seconds", "inf"),
        ("run", "--device", "mock", "--seconds", "1e308"),
        ("run", "--device", "mock", "--seconds", "1", "--values", "5"),
        ("run", "--device", "mock", "--values", "100000000000000000000"),
        ("run", "--device", "mock", "--processes", "100000000000000000000"),
        ("run", "--device", "mock", "--cpu", "99999999999999999999"),
        ("run", "--device", "mock", "--node", "99999999999999999999"),
        ("run", "--device", "mock", "--alignment", "12K"),
        ("run", "--device", "mock", "--label", "\x1b[31m"),
        ("run", "--device", "mock", "--json", "run.json"),
        ("patch", "--", "--output", "x"),
        ("patch", "--", "--device=mock"),
        ("patch", "--", "--size", "nonsense"),
        ("patch", "--native", "--coherent"),
        ("history", "/nonexistent"),
        ("compare", "-", "-"),
        ("plot", "-", "--trace", "-", "--html", "-"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(cli: Cli, stock: str, arguments: tuple[str, ...]) -> None:
    done = cli("bench", *(stock if one == "STOCK" else one for one in arguments))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_tables_fit_a_page(cli: Cli, stock: str, patched: str) -> None:
    for arguments in (("show", stock), ("compare", stock, patched)):
        printed = cli("bench", *arguments).stdout
        assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize("form", ["cover-letter", "iommupt", "vfio-tests"])
def test_formats_for_mail_fit_a_mail(cli: Cli, stock: str, patched: str, form: str) -> None:
    printed = cli("bench", "compare", stock, patched, "--format", form).stdout
    assert max(map(len, printed.splitlines())) <= 72


def test_kcidb_report_is_valid(cli: Cli, stock: str, patched: str) -> None:
    printed = json.loads(cli("bench", "compare", stock, patched, "--format", "kcidb").stdout)
    assert kcidb_io.schema.V5_3.is_valid(printed)
    assert printed["tests"][0]["path"] == "iommufd.bench.map.8K_4k"
    assert printed["tests"][0]["number"]["value"] == pytest.approx(1.5e-6, rel=0.01)


def test_iommupt_table_has_new_before_old(cli: Cli, stock: str, patched: str) -> None:
    printed = cli("bench", "compare", stock, patched, "--format", "iommupt").stdout.splitlines()
    row = printed[printed.index("   pgsz  ,avg new,old ns, min new,old ns  , min % (+ve is better)") + 1]
    assert [one.strip() for one in row.split(",")] == ["2^13", "1500", "1000", "1490", "990", "-50.51"]


def test_a_page_on_standard_output_is_all_that_is_there(cli: Cli, stock: str) -> None:
    done = cli("bench", "plot", stock, "--html", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.rstrip().endswith("</html>")


def test_a_device_as_output_stays_a_device(cli: Cli, stock: str) -> None:
    assert cli("bench", "plot", stock, "--html", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_unwritable_places_are_one_sentence(cli: Cli, stock: str) -> None:
    for arguments in (("--html", "/proc/x.html"), ("--directory", "/proc/x")):
        done = cli("bench", "plot", stock, *arguments)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_history_finds_the_change(cli: Cli, tmp_path: Path) -> None:
    for day, ns in enumerate((1000, 1001, 999, 1300, 1301, 1299), 1):
        one = result(*(process_run([ns + extra] * 3, [500] * 3) for extra in (-1, 0, 1)))
        started = f"2026-01-0{day}T00:00:00+00:00"
        document.save(replace(one, started=started, name=f"run {day}"), tmp_path / f"{9 - day}.json")
    picture = tmp_path / "history.png"
    done = cli("bench", "history", str(tmp_path), "--output", str(picture))
    assert done.returncode == 1, done.stderr
    assert "x1.3* (net x1.34) at 5.json (run 4)" in done.stdout
    assert "floor: an ioctl that does nothing takes 110 ns in 8.json (run 1) and 110 ns in" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = json.loads(cli("bench", "history", str(tmp_path), "--json").stdout)
    assert [one["label"] for one in printed["results"]] == [f"run {day}" for day in range(1, 7)]
    changes = printed["changes"]
    assert [(one["operation"], one["ratio"]) for one in changes] == [("map", pytest.approx(1.3, rel=0.01))]
    (tmp_path / "5.json").unlink(), (tmp_path / "4.json").unlink(), (tmp_path / "3.json").unlink()
    assert cli("bench", "history", str(tmp_path)).returncode == 0


def test_history_marks_the_floor_like_a_comparison(cli: Cli, tmp_path: Path) -> None:
    """It had a sentence of its own, and the word "none" where a comparison has "?"."""
    for day, ns in enumerate((105, 106, 104, 1300, 1301, 1299), 1):
        one = result(*(process_run([ns + extra] * 3, [5000] * 3) for extra in (-1, 0, 1)))
        document.save(replace(one, started=f"2026-01-0{day}T00:00:00+00:00"), tmp_path / f"{day}.json")
    history = " ".join(cli("bench", "history", str(tmp_path)).stdout.split())
    compared = " ".join(cli("bench", "compare", str(tmp_path / "1.json"), str(tmp_path / "4.json")).stdout.split())
    assert "x12.4* (net ?) at 4.json" in history
    legend = re.search(r"\*: the floor, .* \?: the floor is as long as a time", compared)
    assert legend and legend[0] in history


def test_history_counts_a_measurement_once(cli: Cli, tmp_path: Path) -> None:
    """With a link latest.json one slow result counted twice, was a change, and failed the CI."""
    for day, ns in enumerate((1000, 1004, 997, 1005, 995, 1002, 998, 1035), 1):
        one = result(*(process_run([ns + extra] * 3, [500] * 3) for extra in (-1, 0, 1)))
        document.save(replace(one, started=f"2026-01-0{day}T00:00:00+00:00"), tmp_path / f"{day}.json")
    assert cli("bench", "history", str(tmp_path)).returncode == 0
    (tmp_path / "latest.json").symlink_to("8.json")
    (tmp_path / "8-copy.json").write_bytes((tmp_path / "8.json").read_bytes())
    done = cli("bench", "history", str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "8 results, 1.json to 8-copy.json" in done.stdout
    assert "latest.json is left out: it has the measurements of 8-copy.json" in done.stdout


def test_history_says_that_it_leaves_out_a_time_of_no_step_of_the_clock(cli: Cli, tmp_path: Path) -> None:
    for day, times in enumerate(((1000, 500), (0, 500), (0, 0)), 1):
        one = result(*[process_run(*([ns] * 3 for ns in times))] * 3)
        document.save(replace(one, started=f"2026-01-0{day}T00:00:00+00:00"), tmp_path / f"{day}.json")
    remarks = json.loads(cli("bench", "history", str(tmp_path), "--json").stdout)["remarks"]
    left_out = "a time of 0 ns, less than one step of the clock, is left out: map of 8K, 4k"
    assert f"2.json: {left_out}" in remarks
    assert f"3.json: {left_out} (and 1 more)" in remarks
    assert not any(one.startswith("1.json: ") for one in remarks)
    (tmp_path / "1.json").unlink(), (tmp_path / "2.json").unlink()
    done = cli("bench", "history", str(tmp_path), "--output", str(tmp_path / "times.svg"))
    assert done.returncode == 1
    assert "has no history: its results have no operation with a time above 0 ns" in done.stderr


def test_history_names_a_link_to_a_file_that_is_gone(cli: Cli, tmp_path: Path) -> None:
    document.save(result(), tmp_path / "1.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "2.json").symlink_to(tmp_path / "gone")
    done = cli("bench", "history", str(tmp_path))
    assert done.returncode == 1
    assert "2.json cannot be read: No such file" in done.stderr


def test_history_refuses_another_machine_and_names_other_settings(cli: Cli, tmp_path: Path) -> None:
    for day, environment in enumerate(({}, {"governor": "powersave"}, {"governor": "powersave"}), 1):
        one = replace(result(**environment), started=f"2026-01-0{day}T00:00:00+00:00")
        document.save(one, tmp_path / f"{day}.json")
    done = cli("bench", "history", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "1.json and 2.json: they differ in governor: performance and powersave" in done.stdout
    text = " ".join(done.stdout.split())
    assert "GOVERNOR (2 of 3 results, the first is 2.json): the CPU's frequency follows the load" in text
    remarks = json.loads(cli("bench", "history", str(tmp_path), "--json").stdout)["remarks"]
    assert len(remarks) == 2
    document.save(replace(result(cpu="Other"), started="2026-01-04T00:00:00+00:00"), tmp_path / "4.json")
    done = cli("bench", "history", str(tmp_path))
    assert done.returncode == 1
    assert "1.json and 4.json cannot be compared, they differ in CPU (CPU and Other)" in done.stderr


@pytest.mark.parametrize("form", ["table", "markdown", "json", "kcidb", "iommupt", "vfio-tests", "cover-letter"])
def test_doubts_travel_with_each_form(cli: Cli, tmp_path: Path, form: str) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        document.save(result(config={"IOMMUFD_TEST": "y"}, governor="powersave"), file)
    printed = " ".join(cli("bench", "compare", *map(str, files), "--format", form).stdout.split())
    assert "CONFIG_IOMMUFD_TEST adds checks to the measured paths" in printed
    assert "floor" in printed or form in ("json", "kcidb")


def test_results_of_one_label_are_told_apart_by_their_files(cli: Cli, stock: str, tmp_path: Path) -> None:
    """Two runs of one kernel have one label, and 'stock against stock' says nothing."""
    again, elsewhere = tmp_path / "again.json", tmp_path / "elsewhere" / "stock.json"
    elsewhere.parent.mkdir()
    for file in (again, elsewhere):
        file.write_bytes(Path(stock).read_bytes())
    (one,) = json.loads(cli("bench", "compare", stock, str(again), "--json").stdout)["comparisons"]
    assert (one["before"], one["after"]) == ("stock non-coherent (stock.json)", "stock non-coherent (again.json)")
    (one,) = json.loads(cli("bench", "compare", stock, str(elsewhere), "--json").stdout)["comparisons"]
    assert (one["before"], one["after"]) == (f"stock non-coherent ({stock})", f"stock non-coherent ({elsewhere})")
    (one,) = json.loads(cli("bench", "compare", stock, stock, "--json").stdout)["comparisons"]
    assert one["before"] != one["after"]
    assert "With this patchset" not in cli("bench", "compare", stock, str(again), "--format", "vfio-tests").stdout
