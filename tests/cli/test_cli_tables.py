# SPDX-License-Identifier: MIT
"""Tables show every text as it is, in columns that are straight on a terminal."""

import re
import sys
from pathlib import Path

import pytest
from iommufd_py.cli.output import emit_table

from iommufd_py.base.shown import display_width
from tests.programs import IOMMUFD
from tests.terminal import TerminalSession


@pytest.mark.parametrize("text", ["in test_map[thp]", "close [/dev/iommu]", "[red]x[/red]", ":a: :100: :ok:", r"a\[b]"])
def test_a_drawn_table_shows_brackets_and_colons(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """rich took them for colours and pictures: it left them out, or ended with an error."""
    monkeypatch.setenv("TERM", "dumb")  # Colours would divide the text.
    code = f"from iommufd_py.cli.output import emit_table; emit_table(('check', 'why'), [('step', {text!r})])"
    with TerminalSession([sys.executable, "-c", code]) as session:
        assert re.search(rf"step +{re.escape(text)} ", session.write_until_end(""))


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(("name", "time"), [("内核 x", "5 us"), ("kernel", "12 us"), ("e\u0301", "1 us")])
    lines = capsys.readouterr().out.splitlines()
    assert [display_width(line) for line in lines] == [13, 13, 13, 13]
    assert lines[1] == "内核 x   5 us"


@pytest.mark.parametrize("columns", ["0", "00", "-5", "x", "", "²", "٣", "9" * 30])
def test_a_terminal_of_an_impossible_width_gets_the_table(columns: str, tmp_path: Path) -> None:
    """rich drew nothing in 0 columns, and the command succeeded."""
    command = ["/usr/bin/env", f"COLUMNS={columns}", f"LINES={columns}", f"XDG_CACHE_HOME={tmp_path}", IOMMUFD]
    with TerminalSession([*command, "lab", "list"]) as session:
        assert "ends with" in session.write_until_end("")
        assert session.exit_status() == 0
