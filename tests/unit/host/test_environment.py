# SPDX-License-Identifier: MIT
import pytest

from iommufd_py.host.environment import _compiler


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
