# SPDX-License-Identifier: MIT
"""Writing output files: a failure loses no old content, replaces no device or link, and leaves no temporary file."""

import errno
import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from iommufd_py import ToolError
from iommufd_py.base import files
from iommufd_py.base.files import cannot_read, is_regular, read_file, write_file
from iommufd_py.base.privilege import permission_remedy
from tests.waiting import patience


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


@pytest.mark.skipif(os.geteuid() != 0, reason="works as another user")
def test_a_protected_file_is_not_replaced(tmp_path: Path) -> None:
    """The directory belongs to the same user, who could replace the file."""
    file = tmp_path / "protected"
    file.write_bytes(b"old")
    file.chmod(0o444)
    for path in (file, tmp_path):
        os.chown(path, 65534, 65534)
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        for use in (is_regular, lambda one: write_file(one, b"new")):
            with pytest.raises(ToolError, match="protected cannot be written: Permission denied; choose another file"):
                use(file)
        file.chmod(0o644)
        os.seteuid(0)
        tmp_path.chmod(0o755)
        os.chown(tmp_path, 0, 0)
        os.seteuid(65534)
        # write_file() makes a new file in the directory, and then renames it.
        with pytest.raises(ToolError, match="protected cannot be written: Permission denied; choose another file"):
            is_regular(file)
    finally:
        os.seteuid(0)
    assert file.read_bytes() == b"old"


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


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


WRITE = "import sys; from pathlib import Path; from iommufd_py.base.files import write_file\n"


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("redirection", ["| cat", "> {0}; cat {0}", ">> {0}; cat {0}", "> {0}; rm {0}; ls {1}"])
def test_the_name_of_a_descriptor_is_that_descriptor(tmp_path: Path, name: str, redirection: str) -> None:
    """The descriptor is a link to pipe:[123], to a deleted file, or to a file to which >> appends."""
    program = shlex.join([sys.executable, "-c", f"{WRITE}print('buffered'); write_file(Path({name!r}), b'content')"])
    place = tmp_path / "file"
    done = subprocess.run(
        ["sh", "-c", f"(echo before; {program}) {redirection.format(place, tmp_path)}"], capture_output=True, text=True
    )
    removed = "rm" in redirection
    assert (done.stdout, done.stderr) == ("" if removed else "before\nbuffered\ncontent", "")
    assert [one.name for one in tmp_path.iterdir()] == (["file"] if place.exists() else [])


def test_a_descriptor_that_is_not_open(tmp_path: Path) -> None:
    closed = Path("/dev/fd/987")
    for use in (is_regular, lambda one: write_file(one, b"")):
        with pytest.raises(ToolError, match="/dev/fd/987 cannot be written: "):
            use(closed)
    assert not is_regular(Path("/dev/fd/1"))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user")
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_link_of_another_user_in_a_directory_of_all_is_refused(tmp_path: Path, mode: int) -> None:
    """The kernel follows such a link for root if fs.protected_symlinks is 0, or if the program resolves the link."""
    victim, shared = tmp_path / "victim", tmp_path / "shared"
    victim.write_bytes(b"precious")
    shared.mkdir()
    shared.chmod(mode)
    link = shared / "run.json"
    link.symlink_to(victim)
    os.lchown(link, 65534, 65534)
    again = tmp_path / "again"
    again.symlink_to(link)
    for path in (link, again):
        for use in (is_regular, lambda one: write_file(one, b"new")):
            with pytest.raises(ToolError, match=f"it is a link to {victim} that another user put into a directory"):
                use(path)
    assert victim.read_bytes() == b"precious"
    os.lchown(link, 0, 0)
    write_file(again, b"new")
    assert victim.read_bytes() == b"new"


def test_links_in_a_circle(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(ToolError, match="Too many levels of symbolic links"):
        write_file(link, b"new")


@pytest.mark.skipif(os.geteuid() != 0, reason="writes as another user")
def test_a_file_of_another_user_in_a_shared_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for directory in tmp_path.parents[:3]:
        directory.chmod(directory.stat().st_mode | 0o011)
    file = tmp_path / "run.json"
    file.write_bytes(b"old")
    file.chmod(0o4666)
    program = """
import os, sys
from pathlib import Path
from iommufd_py.base.files import write_file
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
write_file(Path(sys.argv[1]), b"new")
"""
    subprocess.run([sys.executable, "-c", program, file], check=True)
    assert file.read_bytes() == b"new"
    # The content changed, so it no longer runs as anybody.
    assert stat.S_IMODE(file.stat().st_mode) == 0o666
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("name", ["no/such/file", "x" * 300, "."])
def test_a_file_that_cannot_be_written_gives_one_sentence(tmp_path: Path, name: str) -> None:
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


def test_a_failed_read_names_the_file() -> None:
    """Of an error without a name, the command line says that the output cannot be written."""
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_file(Path("/proc/self/mem"))
    assert caught.value.filename == "/proc/self/mem"


def test_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = b"x" * 200_000
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    assert read_file(pipe) == content
    writer.join()


@pytest.mark.slow
def test_a_wait_for_another_program_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_TELL_AFTER_SECONDS", 0.05)
    pipe = tmp_path / "new\nline\x1b[31m"
    os.mkfifo(pipe)
    for wait, other, told in (
        (lambda: read_file(pipe), lambda: pipe.write_bytes(b"late"), "waiting for data from"),
        (lambda: write_file(pipe, b"late"), pipe.read_bytes, "waiting for a reader of"),
    ):
        timer = threading.Timer(0.5, other)
        timer.start()
        wait()
        timer.join()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"iommufd: {told} {tmp_path}")
        assert line.endswith(r"new\nline\x1b[31m")
    pipe.unlink()
    pipe.write_bytes(b"at once")
    read_file(pipe)
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    assert is_regular(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    for place in (tmp_path / "absent" / "new", Path("/proc/new"), Path("/sys/new"), Path("/etc/passwd/new")):
        with pytest.raises(ToolError, match=f"{place} cannot be written: .*; choose another file"):
            is_regular(place)


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        ("RLIMIT_FSIZE", "File too large; raise the limit of the size of a file (ulimit -f)"),
        ("RLIMIT_NOFILE", "Too many open files; raise the limit of open files (ulimit -n)"),
    ],
)
def test_the_remedy_for_a_limit_is_its_rise(limit: str, remedy: str, tmp_path: Path) -> None:
    """Another file would not help."""
    program = (
        "import resource, sys; from pathlib import Path; from iommufd_py.base.files import write_file\n"
        f"resource.setrlimit(resource.{limit}, (3, 3)); write_file(Path(sys.argv[1]), b'content')"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "new"], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith(f"new cannot be written: {remedy}")
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    program = (
        "import resource, sys; from pathlib import Path; from iommufd_py.base.files import read_file\n"
        "resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20)); print(read_file(Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "small"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"b'x'\n"), done.stderr


_READ = """
import os, pathlib, sys
from iommufd_py.base.files import read_file
if os.geteuid() == 0:
    os.seteuid(65534)
sys.stdout.buffer.write(read_file(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("kind", ["file of root", "socket", "non-blocking"])
def test_standard_input_is_read_from_its_descriptor(kind: str, name: str, tmp_path: Path) -> None:
    """A new open of /dev/stdin refuses a socket, and after sudo a file of the caller; and it starts at the top."""
    (tmp_path / "file").write_bytes(b"read before, content")
    (tmp_path / "file").chmod(0o600)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    os.read(opened, len("read before, "))
    ours, theirs = socket.socketpair()
    theirs.setblocking(kind != "non-blocking")
    stdin = opened if kind == "file of root" else theirs.fileno()
    with ours, theirs:
        process = subprocess.Popen([sys.executable, "-c", _READ, name], stdin=stdin, stdout=subprocess.PIPE)
        if kind == "non-blocking":
            time.sleep(0.5)  # Its first read finds nothing.
        ours.sendall(b"content")
        ours.shutdown(socket.SHUT_WR)
        assert process.communicate(timeout=patience(60))[0] == b"content"
    os.close(opened)


def test_remedy_for_a_file_that_cannot_be_read() -> None:
    for failure, remedy in (
        (PermissionError(errno.EACCES, "Permission denied"), permission_remedy()),
        (OSError(errno.EMFILE, "Too many open files"), "raise the limit of open files (ulimit -n)"),
        (OSError(errno.EIO, "Input/output error"), "give another file"),
    ):
        assert str(cannot_read("a.json", failure)) == f"a.json cannot be read: {failure.strerror}; {remedy}"
