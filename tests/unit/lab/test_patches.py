# SPDX-License-Identifier: MIT
"""The kernel patches have the form of `git format-patch`, and the texts beside them name what they hold."""

import re
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from iommufd_py import lab
from iommufd_py.lab.source import SERIES

PATCHES = Path(lab.__file__).with_name("patches")
README = (PATCHES / "README.md").read_text()


def messages(folder: Path) -> list[Message]:
    """Return the patches of *folder* as mails, without those for the lab only."""
    found = [message_from_string(path.read_text()) for path in sorted(folder.glob("*.patch"))]
    return [one for one in found if "NOT FOR UPSTREAM" not in one["Subject"]]


def subject(mail: Message) -> str:
    """Return the subject of a patch in one line."""
    return " ".join(mail["Subject"].split())


@pytest.mark.parametrize("series", SERIES)
def test_the_series_is_numbered_and_each_patch_says_its_changes(series: str) -> None:
    mails = messages(PATCHES / series)
    for number, mail in enumerate(mails, 1):
        assert subject(mail).startswith(f"[PATCH v2 {number}/{len(mails)}] ")
        # git am drops the text between the line --- and the first file.
        changelog = str(mail.get_payload()).split("\n---\n", 1)[1].split("\n\n", 1)[0]
        assert re.fullmatch(r"Changes in v2:(\n - .{1,70}|\n   .{1,70})+", changelog), subject(mail)
    assert f"[PATCH v2 0/{len(mails)}]" in (PATCHES / "COVER-LETTER.md").read_text()


@pytest.mark.parametrize("series", SERIES)
def test_the_readme_names_every_patch(series: str) -> None:
    for folder in (PATCHES / series / "fixes", PATCHES / series, PATCHES / series / "refined"):
        for mail in messages(folder):
            name = subject(mail).split("] ", 1)[1]
            assert f"| {name} |" in README


def test_the_readme_names_the_recipients_of_every_changed_file() -> None:
    series = PATCHES / SERIES[0]
    texts = [str(mail.get_payload()) for folder in (series / "fixes", series) for mail in messages(folder)]
    changed = {name for text in texts for name in re.findall(r"^\+\+\+ b/(\S+)$", text, re.MULTILINE)}
    section = README.split("## Recipients\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| ((?:\w+/)\S*) \|", section, re.MULTILINE)
    assert len(changed) > 10
    assert {file for file in changed if not any(file.startswith(row) for row in rows)} == set()
