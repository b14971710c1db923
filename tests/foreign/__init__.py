# SPDX-License-Identifier: MIT
"""A foreign program that maps memory for DMA. It is in C and uses only the kernel's ioctls."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE = Path(__file__).parent
_ABI = _HERE.parents[1] / "cffi_build/abi"


def build_dma_user(directory: Path) -> Path:
    """Compile dma_user.c and return the program. The source describes its arguments."""
    program = directory / "dma_user"
    subprocess.run(["cc", "-O1", "-o", program, _HERE / "dma_user.c", "-I", _ABI], check=True)
    return program


@contextmanager
def running(program: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the program in the block, up to its first step "wait" if it has one."""
    with subprocess.Popen([program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if "wait" in words:
                assert process.stdout
                assert process.stdout.readline() == "waiting\n"
            yield process
        finally:
            process.kill()
