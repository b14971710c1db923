# SPDX-License-Identifier: MIT
"""Read files of procfs and sysfs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.base.sysfs import (
    attribute_number,
    attribute_text,
    chosen_word,
    cpuinfo_field,
    entries,
    kernel_text,
    process_fields,
    start_ticks,
)
from tests.files import write_files
from tests.open_files import TOO_MANY, no_descriptor_left


def test_the_name_of_a_program_moves_no_field(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 ("
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            assert program.name in Path(f"/proc/{child.pid}/stat").read_text()
            assert int(process_fields(child.pid)[1]) == os.getpid()
        finally:
            child.kill()
    assert process_fields(child.pid) == []


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mine = start_ticks(os.getpid())
        started = start_ticks(child.pid)
        assert mine is not None
        assert started is not None
        assert mine <= started
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process_fields(child.pid)[0] == "Z"
        assert start_ticks(child.pid) is None
    assert start_ticks(child.pid) is None


@pytest.mark.parametrize(("text", "number"), [("12\n", 12), ("0", 0), ("-1\n", -1), ("", 0)])
def test_the_number_in_an_attribute(tmp_path: Path, text: str, number: int) -> None:
    (tmp_path / "refcnt").write_text(text)
    assert attribute_number(tmp_path / "refcnt") == number
    assert attribute_number(tmp_path / "gone") == 0


@pytest.mark.parametrize("text", ["x", "0x10", "1 2", "1.5", "٣", "9" * 5000, "\0"])
def test_an_attribute_without_a_number(tmp_path: Path, text: str) -> None:
    """Another program can mount a file there, as in a container. A count that is not known is not 0."""
    (tmp_path / "refcnt").write_text(text)
    with pytest.raises(ToolError, match=f"{tmp_path}/refcnt should have a number, and has '"):
        attribute_number(tmp_path / "refcnt")


@pytest.mark.parametrize(
    ("text", "word"), [("always [madvise] never", "madvise"), ("[none] integrity", "none"), ("0 1", ""), ("", "")]
)
def test_the_chosen_word_is_the_one_in_brackets(text: str, word: str) -> None:
    assert chosen_word(text) == word


def test_a_field_of_cpuinfo_is_that_of_the_first_cpu() -> None:
    text = "vendor_id\t: GenuineIntel\nmodel name\t: First CPU\nflags\t\t:\n\nmodel name\t: Second CPU\n"
    assert [cpuinfo_field(text, name) for name in ("model name", "name", "flags")] == ["First CPU", "", ""]


@pytest.mark.parametrize("pattern", ["*", "a*", "a?", "*/x", "a1/x", "*/x/[0-9]*", "a*/*/7", "gone/x", "a1/x/7/none"])
def test_entries_are_those_of_the_pattern(tmp_path: Path, pattern: str) -> None:
    write_files(tmp_path, dict.fromkeys(("a1/x/7", "a1/x/n", "a2/y", "b/x/70", ".c", "file"), ""))
    assert entries(tmp_path, pattern) == sorted(tmp_path.glob(pattern))


def test_there_is_nothing_in_a_directory_that_is_gone(tmp_path: Path) -> None:
    assert entries(tmp_path / "gone") == entries(tmp_path / "gone", "*/x") == []


def test_a_file_is_not_gone_for_lack_of_a_descriptor(tmp_path: Path) -> None:
    """A device whose openers nobody can list would look unused."""
    file = tmp_path / "directory/file"
    write_files(tmp_path, {"directory/file": "text"})
    with no_descriptor_left():
        for call in (
            lambda: attribute_text(file),
            lambda: kernel_text(file),
            lambda: entries(tmp_path),
            lambda: entries(tmp_path, "directory/*"),
            lambda: process_fields(os.getpid()),
        ):
            with pytest.raises(ToolError, match=f" cannot be opened: {TOO_MANY}"):
                call()
