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
