# SPDX-License-Identifier: MIT
"""CHANGELOG.md at a release: what is unreleased becomes a version. Used by scripts/release.

``python -m scripts.changelog VERSION DATE`` changes the file in this directory and prints the notes of the version.
"""

import re
import sys
from pathlib import Path

_UNRELEASED = "## [Unreleased]\n"
_VERSION = re.compile(r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:rc[1-9]\d*)?")


class ChangelogError(Exception):
    """Why there can be no release."""


def release(text: str, version: str, date: str) -> tuple[str, str]:
    """Return *text*, a changelog, with its unreleased changes as those of *version*, and these changes alone.

    Raises:
        ChangelogError: the version is no version or has been released, or nothing has changed.
    """
    if not _VERSION.fullmatch(version):
        raise ChangelogError(f"{version} is no version: write MAJOR.MINOR.PATCH, or MAJOR.MINOR.PATCHrcN")
    if f"## [{version}]" in text:
        raise ChangelogError(f"CHANGELOG.md has a section for {version} already: choose the next version")
    before, heading, rest = text.partition(_UNRELEASED)
    if not heading:
        raise ChangelogError(f"CHANGELOG.md has no line {_UNRELEASED.strip()!r}: add it above the newest version")
    following = re.search(r"^## ", rest, re.MULTILINE)
    changes = rest[: following.start()] if following else rest
    older = rest[following.start() :] if following else ""
    if not re.search(r"^- ", changes, re.MULTILINE):
        raise ChangelogError("CHANGELOG.md names no change below Unreleased: nothing would be released")
    changed = f"{before}{_UNRELEASED}\n## [{version}] - {date}\n\n{changes.strip()}\n"
    return changed + (f"\n{older}" if older else ""), changes.strip() + "\n"


def main() -> None:
    """Do it in the current directory."""
    version, date = sys.argv[1:]
    path = Path("CHANGELOG.md")
    try:
        text, notes = release(path.read_text(), version, date)
    except ChangelogError as failure:
        sys.exit(f"release: {failure}")
    path.write_text(text)
    sys.stdout.write(notes)


if __name__ == "__main__":
    main()
