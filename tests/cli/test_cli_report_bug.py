# SPDX-License-Identifier: MIT
"""`iommufd report-bug`: the contents of the archive, without data that identifies the machine."""

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs import IOMMUFD

Cli = Callable[..., subprocess.CompletedProcess[str]]


def read(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as archive_file:
        files = {member.name: archive_file.extractfile(member) for member in archive_file}
        return {name.removeprefix("iommufd-bug/"): file.read().decode() for name, file in files.items() if file}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the name of the file is empty"),
        (".", ". is a directory: name a file"),
        ("bug.tar.gz/", "bug.tar.gz is a directory: name a file"),
    ],
)
def test_output_that_names_no_file(cli: Cli, name: str, said: str) -> None:
    done = cli("report-bug", "--output", name)
    assert done.returncode == 2
    assert said in done.stderr


def test_archive_holds_versions_logs_and_results(cli: Cli, tmp_path: Path) -> None:
    result = tmp_path / f"{os.uname().nodename}-run.json"
    result.write_text(json.dumps({"label": f"on {os.uname().nodename}", "device": "0000:3b:00.0"}))
    archive = tmp_path / "bug.tar.gz"
    done = cli("report-bug", "--output", str(archive), str(result))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{archive}\n"
    assert archive.stat().st_mode & 0o777 == 0o600
    files = read(archive)
    assert {"CONTENTS", "info.json", "versions.json", "kernel.log", "results/1-[host name]-run.json"} <= set(files)
    assert json.loads(files["info.json"])["schema"] == "iommufd-info/1"
    assert {"iommufd-py", "python", "cffi", "click"} <= set(json.loads(files["versions.json"]))
    assert json.loads(files["results/1-[host name]-run.json"]) == {"label": "on [host name]", "device": "0000:3b:00.0"}
    for name, text in files.items():
        assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", text), name
        if name != "CONTENTS":
            assert f"{name}: {len(text.encode())} bytes" in files["CONTENTS"]
    assert "Nothing has been sent" in done.stderr


def test_does_not_overwrite(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bug.tar.gz").write_text("mine")
    done = cli("report-bug", "--output", str(tmp_path / "bug.tar.gz"))
    assert done.returncode == 1
    assert "exists: remove it, or choose another file with --output" in done.stderr
    assert (tmp_path / "bug.tar.gz").read_text() == "mine"


def test_nobody_is_told_to_remove_a_device(cli: Cli) -> None:
    done = cli("report-bug", "--output", "/dev/full")
    assert done.returncode == 1
    assert done.stderr == "iommufd: error: /dev/full exists: choose another file with --output\n"


def test_archive_on_standard_output(tmp_path: Path) -> None:
    done = subprocess.run([IOMMUFD, "report-bug", "--output", "-"], capture_output=True, check=True, cwd=tmp_path)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert "iommufd-bug/CONTENTS" in archive.getnames()
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_no_part_of_an_archive(tmp_path: Path) -> None:
    """A limit of the size of files has the effect of a full disk; Python ignores its signal."""
    command = f"ulimit -f 1; exec {IOMMUFD} report-bug --output bug.tar.gz 2>&1 | cat"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    remedy = "File too large; raise the limit of the size of a file (ulimit -f)"
    assert done.stdout == f"iommufd: error: bug.tar.gz cannot be written: {remedy}\n"
    assert list(tmp_path.iterdir()) == []


def leave_nothing(log: Path) -> None:
    pass


def trust_nobody(log: Path) -> None:
    log.write_text("of the last guest\n")
    log.parents[2].chmod(0o777)


@pytest.mark.parametrize(
    ("damage", "content"),
    [
        (leave_nothing, None),
        (Path.mkdir, None),
        (os.mkfifo, None),
        (lambda log: log.symlink_to("nowhere"), None),
        (trust_nobody, "cannot be read: .* is not trusted, because another user can change it"),
        (lambda log: log.write_bytes(b"\xff of the last guest"), "^\N{REPLACEMENT CHARACTER} of the last guest$"),
    ],
    ids=["no log", "directory", "pipe", "link", "not trusted", "not UTF-8"],
)
def test_a_damaged_cache_of_the_lab_is_no_reason_for_no_report(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object], content: str | None
) -> None:
    """The lab refuses a cache that another user can change, such as that of the user who called sudo."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = tmp_path / "iommufd-py/runs/20260101-000000-000000-1"
    run.mkdir(parents=True)
    damage(run / "kernel.log")
    done = cli("report-bug", "--output", str(tmp_path / "bug.tar.gz"))
    assert done.returncode == 0, done.stderr
    log = read(tmp_path / "bug.tar.gz").get("lab-kernel.log")
    assert log is None if content is None else log is not None and re.search(content, log), log
