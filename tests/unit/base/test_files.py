# SPDX-License-Identifier: MIT
"""Writing output files: a failure loses no old content, replaces no device or link, and leaves no temporary file."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from iommufd_py import ToolError
from iommufd_py.base.files import is_regular, read_file, write_file


def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "new", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_present_file_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "present"
    file.write_bytes(b"old")
    file.chmod(0o604)
    write_file(file, b"new")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o604)
    assert [one.name for one in tmp_path.iterdir()] == ["present"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "target", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    write_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert not is_regular(pipe)


def test_a_device_stays_a_device() -> None:
    write_file(Path("/dev/null"), b"content")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert not is_regular(Path("/dev/null"))


def test_what_a_full_disk_refuses_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "present"
    file.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolError, match="cannot be written: No space left on device"):
        write_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["present"]


def test_a_file_of_limited_size_leaves_nothing_behind(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes write() fail, like a full disk."""
    program = (
        "import resource, signal, sys; from pathlib import Path; from iommufd_py.base.files import write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_file(Path(sys.argv[1]), bytes(1 << 20))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "big")], capture_output=True, text=True)
    assert "cannot be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_dash_is_standard_output() -> None:
    program = (
        "from pathlib import Path; from iommufd_py.base.files import write_file; write_file(Path('-'), b'content')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"content"


@pytest.mark.parametrize("name", ["no/such/file", "x" * 300, "."])
def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ToolError, match="cannot be written"):
        write_file(tmp_path / name, b"content")
    assert list(tmp_path.iterdir()) == []


def test_file_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="/dev/zero is larger than 1 MiB"):
        read_file(Path("/dev/zero"), 1 << 20)
    file = tmp_path / "file"
    file.write_bytes(bytes(100))
    assert read_file(file, 100) == bytes(100)
    with pytest.raises(OSError, match="Is a directory"):
        read_file(tmp_path)


def test_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = b"x" * 200_000
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    assert read_file(pipe) == content
    writer.join()
