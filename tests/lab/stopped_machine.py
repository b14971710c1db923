# SPDX-License-Identifier: MIT
"""A machine of the lab's emulator whose CPUs do not run. A test drives it by the protocol qtest."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from iommufd_py.lab.emulators import FIRMWARE

SLOT = 3
"""Number of the device on bus 0."""

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC


def emulator_command(program: Path, *words: str) -> list[str]:
    firmware = [word for directory in FIRMWARE for word in ("-L", directory)]
    return [str(program), *firmware, "-display", "none", "-nodefaults", *words]


class StoppedMachine:
    """The memory, the ports and the device in :data:`SLOT` of a machine."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @classmethod
    @contextmanager
    def start(cls, program: Path, *words: str) -> Iterator[Self]:
        pipe = subprocess.PIPE
        protocol = ["-qtest", "stdio", "-qtest-log", "/dev/null"]
        argv = emulator_command(program, "-machine", "q35", "-m", "64M", *words, *protocol)
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield cls(process)
            finally:
                process.kill()

    def ask(self, request: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        while True:
            answer = self._process.stdout.readline()
            assert answer, "the emulator ended"
            if answer.startswith(("OK", "ERR", "FAIL")):
                assert answer.startswith("OK"), answer
                return answer

    def out(self, port: int, value: int, size: str = "l") -> None:
        self.ask(f"out{size} {port:#x} {value:#x}")

    def read(self, address: int, size: int) -> bytes:
        return bytes.fromhex(self.ask(f"read {address:#x} {size:#x}").split()[1][2:])

    def write(self, address: int, data: bytes) -> None:
        self.ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def _select(self, at: int) -> int:
        self.out(CONFIG_ADDRESS, 1 << 31 | SLOT << 11 | at & ~3)
        return CONFIG_DATA + (at & 3)

    def config(self, at: int) -> int:
        port = self._select(at)
        return int(self.ask(f"inw {port:#x}").split()[1], 0)

    def set_config(self, at: int, value: int) -> None:
        port = self._select(at)
        self.out(port, value, "w")

    def control(self) -> int:
        """The offset of Device Control of the PCI Express capability."""
        at = self.config(0x34) & 0xFC
        while self.config(at) & 0xFF != 0x10:
            at = self.config(at) >> 8
            assert at, "no PCI Express capability"
        return at + 8
