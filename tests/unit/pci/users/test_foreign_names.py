# SPDX-License-Identifier: MIT
"""Other users choose names of processes and mounts, with any bytes. No name may cause a failure or control a
terminal."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from iommufd_py.cli.output import emit_facts, emit_table, note

from iommufd_py.base.shown import printable
from iommufd_py.base.sysfs import attribute_text
from iommufd_py.pci.users.mounts import mounts_everywhere, parse_mounts, parse_swaps

_PR_SET_NAME = 15


def test_process_whose_name_is_not_utf_8() -> None:
    program = f"""
import ctypes, sys
ctypes.CDLL(None).prctl({_PR_SET_NAME}, b"\\xff\\x1b[31m\\xe9")
print("ready", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        name = attribute_text(Path(f"/proc/{child.pid}/comm"))
        assert os.fsencode(name) == b"\xff\x1b[31m\xe9"
        assert printable(name) == r"\udcff\x1b[31m\udce9"


def test_process_that_ends_while_its_name_is_read() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        attribute = Path(f"/proc/{child.pid}/comm")
        with attribute.open() as file:
            child.kill()
            child.wait()
            with pytest.raises(ProcessLookupError):  # The kernel answers this in that moment.
                file.read()
    assert attribute_text(attribute) == ""


@pytest.mark.parametrize("odd", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u00a0", "\udcff"])
def test_mount_whose_name_has_what_python_takes_for_white_space(odd: str) -> None:
    line = f"36 35 98:0 /mnt1 /mnt{odd}2 rw,noatime master:1 - ext3 /dev/{odd}root rw,errors=continue\n"
    (mount,) = parse_mounts(line)
    assert (mount.number, mount.target, mount.source, mount.type) == ("98:0", f"/mnt{odd}2", f"/dev/{odd}root", "ext3")


def test_swap_file_whose_name_has_what_python_takes_for_white_space() -> None:
    text = "Filename\t\t\t\tType\t\tSize\n/swap\x0cfile file 1\n/dev/sda2 partition 1 2 3\n"
    assert parse_swaps(text) == ("/swap\x0cfile", "/dev/sda2")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_real_mount_of_such_a_name(tmp_path: Path) -> None:
    target = os.fsencode(tmp_path) + b"/a\x0c\xff\x1cb"
    os.mkdir(target)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", target, b"tmpfs", 0, None):
        pytest.skip("this container may not mount")
    try:
        assert os.fsdecode(target) in {mount.target for mount in mounts_everywhere()}
    finally:
        libc.umount2(target, 2)


def test_no_name_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b]0;title\x07\r\n\udcff"
    emit_facts([("in use", evil)])
    emit_table(("process",), [(evil,)])
    note("\x1b[31m")
    out, err = capsys.readouterr()
    assert all(one.isprintable() for line in out.split("\n") + err.split("\n") for one in line)
    assert r"\x1b]0;title" in out
