# SPDX-License-Identifier: MIT
"""Statements of the documentation about the code are true."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/_ext"))

import help_text  # noqa: E402
import house  # noqa: E402
import reference  # noqa: E402
import source_pages  # noqa: E402
from iommufd_py.cli.bench import bench  # noqa: E402
from iommufd_py.cli.commands import all_commands  # noqa: E402
from iommufd_py.cli.main import _COMMANDS, iommufd  # noqa: E402

from iommufd_py import api  # noqa: E402
from iommufd_py.testing import plugin  # noqa: E402


def test_the_picture_has_every_room_of_the_contract_in_its_order() -> None:
    (layers,) = (
        contract["layers"]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    expected = [name.strip().removeprefix("iommufd_py.") for layer in layers for name in layer.split("|")]
    drawn = re.findall(r'<text class="name"[^>]*>([^<]+)</text>', house.picture(house.floors()))
    assert drawn == expected


def test_each_floor_is_below_the_one_before() -> None:
    tops = [int(top) for top in re.findall(r'<rect [^>]*y="(\d+)"', house.picture(house.floors()))]
    floors = [len(level) for level in house.floors()]
    assert len(tops) == sum(floors)
    assert sorted(tops) == tops
    assert len(set(tops)) == len(floors)


def test_tab_shows_the_public_names_only() -> None:
    command = "import iommufd_py as p; print(*(name for name in dir(p) if name[0] != '_' and name not in p.__all__))"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, check=True).stdout == b"\n"


def test_every_room_says_its_job() -> None:
    for level in house.floors():
        for room in level:
            assert room.job.endswith((".", ":")), f"{room.name}: {room.job!r}"


def test_every_package_is_a_room() -> None:
    rooms = {room.name for level in house.floors() for room in level}
    packages = {path.parent.name for path in (ROOT / "iommufd_py").glob("*/__init__.py")}
    assert packages <= rooms


def test_the_reference_has_every_public_name_and_command(tmp_path: Path) -> None:
    reference.write_pages(tmp_path)
    pages = "".join(path.read_text() for path in tmp_path.glob("api-*.rst"))
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", pages, re.MULTILINE)
    assert sorted(documented) == sorted(api.__all__)
    assert {path.stem for path in tmp_path.glob("command-*")} == {f"command-{name}" for name in _COMMANDS}


def messages() -> str:
    """Return the sources with each message joined to one piece, and a dot for each value in it."""
    sources = "".join(path.read_text() for place in ("iommufd_py", "cli") for path in (ROOT / place).rglob("*.py"))
    return re.sub(r"\{[^{}]*\}", ".", re.sub(r'"\s*\n\s*f?"', "", sources))


def test_troubleshooting_quotes_messages_that_the_tool_has() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    quoted = re.findall(r'^### "(.+)"$', page, re.MULTILINE)
    assert len(quoted) > 15
    known = messages()
    assert [one for one in quoted if one not in known] == []


def test_every_code_of_doubt_is_explained() -> None:
    codes = set(re.findall(r'"([A-Z][A-Z_]{2,})"', (ROOT / "iommufd_py/results/validity.py").read_text()))
    page = (ROOT / "docs/how-to/read-the-tables.md").read_text()
    assert {"TCG", "UML", "FEW_RUNS"} <= codes
    assert {code for code in codes if f"`{code}`" not in page} - {"PROVE_LOCKING", "IOMMUFD_TEST"} == set()


def test_every_fixture_and_marker_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/pytest.md").read_text()
    source = (ROOT / "iommufd_py/testing/plugin.py").read_text()
    for name in [*re.findall(r"@pytest\.fixture.*\ndef (\w+)", source), *plugin._MARKERS]:
        assert f"| `{name}` |" in page, name


# A line fits into the narrowest column of text that the theme makes on a desktop (docs/_static/pages.css).
LONGEST_CODE = 92


def code_of_pages() -> Iterator[tuple[Path, int, str]]:
    """Yield each line of code that a page shows: its file, its number, its text."""
    for page in (ROOT / "docs").rglob("*.md"):
        fenced = glossary = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                fenced, glossary = not fenced, line.startswith("```{glossary}")
            elif fenced and not glossary:
                yield page, number, line
            elif line.startswith("    "):
                yield page, number, line[4:]
    for pattern in ("docs/examples/*.py", "docs/how-to/*/*.*", "cli/examples/*.console"):
        for file in ROOT.glob(pattern):
            yield from ((file, number, line) for number, line in enumerate(file.read_text().splitlines(), 1))


def test_code_fits_into_its_column() -> None:
    lines = list(code_of_pages())
    names = {file.name for file, _, _ in lines}
    assert {"lab.md", "dma.py", "plan.toml", "validate-patch.sh", "workflow.yml", "map.console"} <= names
    assert [f"{file.name}:{number}" for file, number, line in lines if len(line) > LONGEST_CODE] == []


def test_the_reference_shows_defaults_and_ranges() -> None:
    calibrate = bench.get_command(click.Context(bench), "calibrate")
    assert calibrate is not None
    text = "\n".join(help_text.options(click.Context(calibrate)))
    assert ".. option:: --boots NUMBER" in text
    assert "[default: 6; 3<=x<=1000]" in text


def test_no_option_has_two_defaults() -> None:
    for context in all_commands(click.Context(iommufd, info_name="iommufd", show_default=True)):
        for option in context.command.params:
            record = option.get_help_record(context) or ("", "")
            assert record[1].count("[default: ") <= 1, f"{context.command_path} {record}"


def test_examples_of_a_help_text_are_code() -> None:
    lines = [
        "Stars * stay, `words --x` and --all-options are code.",
        "",
        "| Examples:",
        "|   iommufd info",
        "",
        "The end.",
    ]
    code = ["Examples:", "", ".. code-block:: sh", "", "   iommufd info"]
    assert list(help_text.description(lines)) == [
        r"Stars \* stay, ``words --x`` and ``--all-options`` are code.",
        "",
        *code,
        "",
        "The end.",
    ]


def test_headings_have_the_whole_command() -> None:
    words = list(help_text.whole_commands("iommufd", iommufd))
    assert {f"iommufd {name}" for name in _COMMANDS} <= set(words)
    assert {"iommufd bench run", "iommufd lab kernel build", "iommufd report-bug"} <= set(words)
    assert len(set(words)) == len(words)


def test_each_recorded_example_is_below_its_command() -> None:
    recorded = {path.stem: path.read_text().splitlines()[1:] for path in (ROOT / "cli/examples").glob("*.console")}
    shown = {words: reference.recorded_example(words) for words in help_text.whole_commands("iommufd", iommufd)}
    named = {words.removeprefix("iommufd ").replace(" ", "-") for words, lines in shown.items() if lines}
    assert named == set(recorded)
    (intro, *_, last, _) = shown["iommufd bench plot"]
    assert "on patched User-Mode Linux" in intro
    assert last == f"   {recorded['bench-plot'][-1]}"


def test_each_constant_has_its_own_text(tmp_path: Path) -> None:
    reference.write_pages(tmp_path)
    page = (tmp_path / "room-mock.rst").read_text()
    assert ".. py:data:: PAGE_BYTES\n   :value: 2048\n\n   The smallest page of a mock domain" in page
    with pytest.raises(LookupError, match=r"iommufd_py\.mock\.NONE has no docstring"):
        reference._text_of_constant("iommufd_py.mock", "NONE")


def test_attributes_of_a_docstring_are_found() -> None:
    text = "One.\n\nArgs:\n    start: a word.\n\n"
    text += "Attributes:\n    one: is: it.\n        more: text\n    two (int): 2.\n\nMore:\n    x: y"
    assert reference.attributes_in(text) == ["one", "two"]
    assert reference.attributes_in("None of them.") == []


def test_links_from_the_source_go_to_what_is_documented() -> None:
    documented = ["iommufd_py.mock.check_refs", "iommufd_py.MockDevice", "iommufd_py.vtd.CAP", "iommufd_py.amd.CAP"]
    body = '<a href="room.html#iommufd_py.check_refs"> <a href="api.html#iommufd_py.MockDevice"> #iommufd_py.CAP'
    mended = body.replace("#iommufd_py.check_refs", "#iommufd_py.mock.check_refs")
    assert source_pages.mended(body, documented) == mended


def files_named_in(text: str) -> set[str]:
    """Return the files and folders of this repository that a text names in code or as the target of a link."""
    found = re.findall(r"`((?:iommufd_py|tests|docs|cli|cffi_build)/[\w./-]*\w/?)`", text)
    # SERIES stands for a kernel, NAME for a file that the reader adds.
    named = (name.replace("SERIES", "7.3") for name in found if "NAME" not in name)
    return {*named, *re.findall(r"\]\(((?!\w+:)[\w./-]+)\)", text)}


def test_files_that_the_pages_name_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("iommufd_py/lab/*/README.md")]
    named = {(page, name) for page in pages for name in files_named_in(page.read_text())}
    assert len(named) > 40
    missing = [(page.name, name) for page, name in named if not any((at / name).exists() for at in (ROOT, page.parent))]
    assert missing == []


def test_a_test_runs_each_example_program() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {path.name for path in (ROOT / "docs/examples").glob("*.py")} <= set(re.findall(r'["/]([\w.]+\.py)"', tests))
