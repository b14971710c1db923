# SPDX-License-Identifier: MIT
"""Tables show every text as it is."""

import re
import sys

import pytest

from tests.terminal import TerminalSession


@pytest.mark.parametrize("text", ["in test_map[thp]", "close [/dev/iommu]", "[red]x[/red]", ":a: :100: :ok:", r"a\[b]"])
def test_a_drawn_table_shows_brackets_and_colons(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """rich took them for colours and pictures: it left them out, or ended with an error."""
    monkeypatch.setenv("TERM", "dumb")  # Colours would divide the text.
    code = f"from iommufd_py.cli.output import emit_table; emit_table(('check', 'why'), [('step', {text!r})])"
    with TerminalSession([sys.executable, "-c", code]) as session:
        assert re.search(rf"step +{re.escape(text)} ", session.write_until_end(""))
