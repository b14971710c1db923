# SPDX-License-Identifier: MIT
"""The changelog at a release."""

from pathlib import Path

import pytest

from scripts.changelog import ChangelogError, release

BEFORE = """# Changelog

## [Unreleased]

### Added
- A command.

## [0.1.0] - 2026-01-01

- Everything.
"""
AFTER = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-02-03

### Added
- A command.

## [0.1.0] - 2026-01-01

- Everything.
"""


def test_unreleased_changes_become_a_version() -> None:
    assert release(BEFORE, "0.2.0", "2026-02-03") == (AFTER, "### Added\n- A command.\n")


def test_first_release() -> None:
    text, notes = release("## [Unreleased]\n\n- All.\n", "0.1.0rc1", "2026-01-01")
    assert text == "## [Unreleased]\n\n## [0.1.0rc1] - 2026-01-01\n\n- All.\n"
    assert notes == "- All.\n"


@pytest.mark.parametrize(
    ("text", "version", "reason"),
    [
        (BEFORE, "0.1.0", "already has a section for 0.1.0"),
        (BEFORE, "v0.2.0", "is not a version"),
        (BEFORE, "0.2", "is not a version"),
        (AFTER, "0.3.0", "lists no change below Unreleased"),
        ("# Changelog\n", "0.1.0", "has no line '## [Unreleased]'"),
    ],
)
def test_refuses(text: str, version: str, reason: str) -> None:
    with pytest.raises(ChangelogError, match=reason.replace("[", r"\[")):
        release(text, version, "2026-02-03")


def test_our_changelog_can_be_released() -> None:
    text, notes = release((Path(__file__).parents[3] / "CHANGELOG.md").read_text(), "999.0.0", "2026-02-03")
    assert "## [999.0.0] - 2026-02-03" in text
    assert notes in text
