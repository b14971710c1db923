# SPDX-License-Identifier: MIT
"""Reading a kernel's configuration (packed or not), compiler and lockdown level."""

import gzip
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from iommufd_py.host.environment import _compiler, environment, read_timing_options
from iommufd_py.host.tracefs import lockdown_level
from iommufd_py.results import document
from tests.unit.results.bench_results import process_run, result

CONFIG = b"# a comment\nCONFIG_IOMMUFD_TEST=y\n# CONFIG_KASAN is not set\nCONFIG_HZ=250\nCONFIG_OTHER=m\n"


def test_configuration_is_the_same_packed() -> None:
    plain = read_timing_options(CONFIG)
    assert read_timing_options(gzip.compress(CONFIG)) == plain
    assert (plain["IOMMUFD_TEST"], plain["KASAN"], plain["HZ"]) == ("y", "n", "250")
    assert "OTHER" not in plain


@pytest.mark.parametrize("content", [b"", bytes(100), b"# nothing\n", CONFIG.decode().encode("utf-16")])
def test_a_file_that_is_no_configuration_sets_no_option_to_n(content: bytes) -> None:
    with pytest.raises(ValueError, match="no configuration"):
        read_timing_options(content)


def test_blanks_and_control_characters_of_a_configuration() -> None:
    assert read_timing_options(b"CONFIG_HZ=1000 \r\n")["HZ"] == "1000"
    assert read_timing_options(b"CONFIG_HZ=\x1b[31m\n")["HZ"] == "?[31m"


def test_a_result_with_a_strange_machine_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a kernel's image can hold any character, and so can the kernel's command line."""
    monkeypatch.setenv("IOMMUFD_LAB_KERNEL", "/tmp/a\n\tb\u202e\udcff/bzImage" + "x" * 20_000)
    found = environment()
    assert found.kernel_variant.startswith("/tmp/a??b??/bzImagexx")
    document.save(replace(result(process_run()), environment=found), tmp_path / "run.json")
    assert document.load_result(tmp_path / "run.json").environment == found


def test_a_password_of_the_command_line_is_in_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results go to mailing lists and to KCIDB."""
    (tmp_path / "cmdline").write_text("ro rd.iscsi.password=S3cret inst.ks=https://kick:S3cret@server/a.ks quiet\n")
    # The package has a function of the name of this module.
    monkeypatch.setattr(sys.modules[environment.__module__], "_COMMAND_LINE", tmp_path / "cmdline")
    hidden = "ro rd.iscsi.password=[secret] inst.ks=https://[secret]@server/a.ks quiet"
    assert environment().command_line == hidden


def test_lockdown() -> None:
    assert lockdown_level("none [integrity] confidentiality\n") == "integrity"
    assert lockdown_level("[none] integrity confidentiality\n") == "none"
    assert lockdown_level("") == ""


@pytest.mark.parametrize(
    ("version", "compiler"),
    [
        ("Linux version 6.18.44 (me@host) (gcc (GCC) 15.3.0, GNU ld (GNU Binutils) 2.46) #1 SMP", "gcc (GCC) 15.3.0"),
        (
            "Linux version 6.1.0-41-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, "
            "GNU ld (GNU Binutils for Debian) 2.40) #1 SMP",
            "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0",
        ),
        (
            "Linux version 6.9.0 (a@b) (Debian clang version 16.0.6 (27), LLD 16.0.6) #2",
            "Debian clang version 16.0.6 (27)",
        ),
        ("Linux version 6.9.0 (a@b) (tcc) #2", ""),
    ],
)
def test_compiler_of_a_kernel(version: str, compiler: str) -> None:
    assert _compiler(version) == compiler
