# SPDX-License-Identifier: MIT
"""The mirror of Debian in the files of apt, in both formats."""

from pathlib import Path

import pytest

from iommufd_py.lab.apt import Archive, mirror, parse_deb822, parse_one_line, system_archives

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_one_line_format() -> None:
    text = """
# deb http://mirror.example/commented trixie main
deb http://mirror.example/debian bookworm main contrib # remark
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/key.gpg] https://other.example/x trixie-updates  main
deb http://third.example/apt stable nonfree
"""
    assert list(parse_one_line(text)) == [
        Archive("http://mirror.example/debian", "bookworm", KEYRING),
        Archive("https://other.example/x", "trixie-updates", "/etc/key.gpg"),
    ]


def test_deb822_format() -> None:
    text = """Types: deb deb-src
# a comment inside
URIs: http://mirror.example/debian
 http://second.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: sid
Components: main

Types: deb
URIs: http://inline.example/debian
Suites: sid
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""
    found = list(parse_deb822(text))
    assert [(archive.uri, archive.suite) for archive in found] == [
        ("http://mirror.example/debian", "trixie"),
        ("http://mirror.example/debian", "trixie-updates"),
        ("http://second.example/debian", "trixie"),
        ("http://second.example/debian", "trixie-updates"),
        ("http://inline.example/debian", "sid"),
    ]
    assert found[0].signed_by == "/usr/share/keyrings/debian-archive-keyring.pgp"
    assert found[-1].signed_by == KEYRING


def test_only_debian_suites_of_the_system_count_and_the_mirror_is_the_main_one(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://security.example/debian-security bookworm-security main\n")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "a.sources").write_text("Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\n")
    (parts / "b.list").write_text("deb http://third.example/apt nodistro main\n")
    (parts / "c.list.disabled").write_text("deb http://off.example/debian sid main\n")
    archives = system_archives(tmp_path)
    assert [archive.suite for archive in archives] == ["bookworm-security", "bookworm"]
    sid = mirror(archives, "sid")
    assert sid is not None
    assert sid.line() == f"deb [signed-by={KEYRING}] http://m.example/debian sid main"


def test_without_a_debian_archive_there_is_no_mirror(tmp_path: Path) -> None:
    assert system_archives(tmp_path) == []
    assert mirror([], "sid") is None


@pytest.mark.parametrize("text", ["", "\n\n", "deb\n", "deb [broken\n", "Types: deb\n", "garbage: x: y\n\n\n"])
def test_odd_files_yield_nothing(text: str) -> None:
    assert list(parse_one_line(text)) == []
    assert list(parse_deb822(text)) == []
