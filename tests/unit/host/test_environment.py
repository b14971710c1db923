# SPDX-License-Identifier: MIT
"""Reading a kernel's configuration (packed or not), compiler and lockdown level."""

import gzip

import pytest

from iommufd_py.host.environment import _compiler, read_timing_options
from iommufd_py.host.tracefs import lockdown_level

CONFIG = b"# a comment\nCONFIG_IOMMUFD_TEST=y\n# CONFIG_KASAN is not set\nCONFIG_HZ=250\nCONFIG_OTHER=m\n"


def test_configuration_is_the_same_packed() -> None:
    plain = read_timing_options(CONFIG)
    assert read_timing_options(gzip.compress(CONFIG)) == plain
    assert (plain["IOMMUFD_TEST"], plain["KASAN"], plain["HZ"]) == ("y", "n", "250")
    assert "OTHER" not in plain


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
