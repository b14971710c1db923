# SPDX-License-Identifier: MIT
"""Read files of procfs and sysfs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.base.sysfs import chosen_word, cpuinfo_field, process_fields, start_ticks


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


@pytest.mark.parametrize(
    ("text", "word"), [("always [madvise] never", "madvise"), ("[none] integrity", "none"), ("0 1", ""), ("", "")]
)
def test_the_chosen_word_is_the_one_in_brackets(text: str, word: str) -> None:
    assert chosen_word(text) == word


def test_a_field_of_cpuinfo_is_that_of_the_first_cpu() -> None:
    text = "vendor_id\t: GenuineIntel\nmodel name\t: First CPU\nflags\t\t:\n\nmodel name\t: Second CPU\n"
    assert [cpuinfo_field(text, name) for name in ("model name", "name", "flags")] == ["First CPU", "", ""]
