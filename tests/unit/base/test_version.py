# SPDX-License-Identifier: MIT
"""The version of a checkout. The tests make checkouts with the installed git."""

import os
import subprocess
from pathlib import Path

import pytest

import iommufd_py
from iommufd_py.base import version
from iommufd_py.base.version import tool_version

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit that seems to contain the package."""
    place = tmp_path / "checkout"
    (place / "iommufd_py/base").mkdir(parents=True)
    for name in (".gitattributes", ".git_archival.txt"):
        (place / name).write_text((ROOT / name).read_text())
    git(place, "init", "--quiet")
    commit(place, "one")
    believe(monkeypatch, place)
    return place


def believe(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(version, "__file__", str(place / "iommufd_py/base/version.py"))


def git(place: Path, *arguments: str) -> str:
    command = ["git", "-C", str(place), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(place: Path, content: str) -> str:
    (place / "iommufd_py/base/version.py").write_text(content)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--no-gpg-sign", "--message", content)
    return git(place, "rev-parse", "--short=12", "HEAD")


def fresh() -> str:
    tool_version.cache_clear()
    return tool_version()


@pytest.fixture(autouse=True)
def forget() -> object:
    yield
    tool_version.cache_clear()


def test_two_commits_are_told_apart(checkout: Path) -> None:
    first = fresh()
    second = commit(checkout, "two")
    assert fresh() == second != first


def test_an_edited_file_is_told(checkout: Path) -> None:
    (checkout / "iommufd_py/base/version.py").write_text("edited")
    assert fresh().endswith("-dirty")


def test_a_tag_names_the_version(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.0")
    git(checkout, "tag", "other")
    commit(checkout, "two")
    assert fresh() == f"v1.2.0-1-g{git(checkout, 'rev-parse', '--short=12', 'HEAD')}"


@pytest.mark.parametrize("tag", [None, "v1.2.0"])
def test_an_archive_keeps_its_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str | None
) -> None:
    if tag:
        git(checkout, "tag", tag)
    git(checkout, "archive", "--output", str(tmp_path / "a.tar"), "HEAD")
    (tmp_path / "archive").mkdir()
    # Python 3.11.2 of Debian 12 has no filters in tarfile, and later ones warn without one.
    subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", tmp_path / "archive"], check=True)
    believe(monkeypatch, tmp_path / "archive")
    assert fresh() == (tag or git(checkout, "rev-parse", "--short=12", "HEAD"))


def test_a_broken_repository_is_unknown(checkout: Path) -> None:
    (checkout / ".git/HEAD").unlink()
    assert fresh() == "unknown"


def test_a_checkout_without_git_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert fresh() == "unknown"


def test_a_checkout_of_another_owner_is_read(checkout: Path) -> None:
    """Root runs the checkout of a user, which git refuses unless it is a safe.directory."""
    expected = git(checkout, "rev-parse", "--short=12", "HEAD")
    try:
        for path in (checkout, *checkout.rglob("*")):
            os.chown(path, 12345, 12345)
    except PermissionError:
        pytest.skip("needs root, to give files to another user")
    assert fresh() == expected


def test_the_tool_says_this_version() -> None:
    assert iommufd_py.__version__ == fresh()
