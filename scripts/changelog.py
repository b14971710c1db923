# SPDX-License-Identifier: MIT
"""Turn the section Unreleased of CHANGELOG.md into the section of a version. scripts/release uses this module.

``python -m scripts.changelog VERSION DATE`` changes the file in this directory and prints the notes of the version.
"""

import re
import sys
from pathlib import Path

_UNRELEASED = "## [Unreleased]\n"
_VERSION = re.compile(r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:rc[1-9]\d*)?")


class ChangelogError(Exception):
    """The changelog does not allow a release; the text gives the reason."""


def release(text: str, version: str, date: str) -> tuple[str, str]:
    """Move the unreleased changes in *text*, a changelog, to *version*. Return the new changelog and these changes.

    Raises:
        ChangelogError: the version is malformed or already released, or there are no changes.
    """
    if not _VERSION.fullmatch(version):
        raise ChangelogError(f"{version} is not a version: write MAJOR.MINOR.PATCH, or MAJOR.MINOR.PATCHrcN")
    if f"## [{version}]" in text:
        raise ChangelogError(f"CHANGELOG.md already has a section for {version}: choose the next version")
    before, heading, rest = text.partition(_UNRELEASED)
    if not heading:
        raise ChangelogError(f"CHANGELOG.md has no line {_UNRELEASED.strip()!r}: add it above the newest version")
    following = re.search(r"^## ", rest, re.MULTILINE)
    changes = rest[: following.start()] if following else rest
    older = rest[following.start() :] if following else ""
    if not re.search(r"^- ", changes, re.MULTILINE):
        raise ChangelogError("CHANGELOG.md lists no change below Unreleased: there is nothing to release")
    changed = f"{before}{_UNRELEASED}\n## [{version}] - {date}\n\n{changes.strip()}\n"
    return changed + (f"\n{older}" if older else ""), changes.strip() + "\n"


def main() -> None:
    """Change CHANGELOG.md in the current directory and print the notes."""
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
