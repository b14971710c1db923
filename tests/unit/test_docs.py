# SPDX-License-Identifier: MIT
"""Statements of the documentation about the code are true."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/_ext"))

import house  # noqa: E402
import reference  # noqa: E402
from iommufd_py.cli.main import _COMMANDS  # noqa: E402

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
