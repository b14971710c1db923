# SPDX-License-Identifier: MIT
"""The emulator itself, without a guest: the machines that its model refuses, and Enable No Snoop after a reset."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iommufd_py.lab.emulators import FIRMWARE, build_emulator
from iommufd_py.lab.progress import Silent
from tests.waiting import patience, wait_until

NVME = 3 << 11
"""The address of the NVMe controller in the port CONFIG_ADDRESS: bus 0, device 3, function 0."""

ENABLE_NO_SNOOP, START_FLR = 1 << 11, 1 << 15


@pytest.fixture(scope="module")
def program() -> Path:
    return build_emulator(Silent()).program


def command(program: Path, *words: str) -> list[str]:
    firmware = [word for directory in FIRMWARE for word in ("-L", directory)]
    machine = ["-display", "none", "-nodefaults", "-S", "-accel", "tcg,thread=single"]
    return [str(program), *firmware, *machine, *words]


def qmp(program: Path, *words: str, requests: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """Start the emulator with *words*, send it *requests* and the request to end, and return its answers."""
    lines = ['{"execute": "qmp_capabilities"}', *requests, '{"execute": "quit"}']
    return subprocess.run(
        [*command(program, *words), "-qmp", "stdio"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        timeout=patience(60),
    )


BACKEND = "-m 128M -machine q35,memory-backend=ram -object memory-backend-ram,id=ram,size=128M"


@pytest.mark.parametrize("machine", ["-machine q35", "-machine q35 -m 6G", BACKEND])
def test_a_machine_with_plain_ram_gets_caches(program: Path, machine: str) -> None:
    done = qmp(program, *machine.split(), "-device", "cpu-caches")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        ("-machine none", "the machine has none"),
        (f"{BACKEND},share=on", "it is shared or mapped from a file"),
        ("-machine q35 -m 128M -mem-path /dev/shm", "it is shared or mapped from a file"),
        (
            "-m 128M -machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=128M,share=off",
            "it is shared or mapped from a file",
        ),
        (
            "-machine q35 -m 128M -object memory-backend-ram,id=ram,size=128M -numa node,memdev=ram",
            "it has several memory backends",
        ),
        (f"{BACKEND},prealloc=on", "it is preallocated or bound to host nodes"),
    ],
)
def test_ram_that_would_lose_something_is_refused(program: Path, machine: str, problem: str) -> None:
    words = machine.split()
    assert qmp(program, *words).returncode == 0
    done = qmp(program, *words, "-device", "cpu-caches")
    assert done.returncode == 1
    assert f"-device cpu-caches: cpu-caches needs plain private RAM: {problem}\n" in done.stderr


def test_locked_ram_is_refused(program: Path) -> None:
    done = qmp(program, "-machine", "q35", "-overcommit", "mem-lock=on", "-device", "cpu-caches")
    assert done.returncode == 1
    if "mlockall" in done.stderr:
        pytest.skip("this user may not lock so much memory")
    assert done.stderr.endswith("cpu-caches needs plain private RAM: it is locked\n")


def test_a_machine_with_caches_does_not_migrate(program: Path) -> None:
    """The content of memory behind the caches would be lost."""
    request = json.dumps({"execute": "migrate", "arguments": {"uri": "exec:cat >/dev/null"}})

    def refusals(*device: str) -> list[str]:
        done = qmp(program, "-machine", "q35", *device, requests=(request,))
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        return [answer["error"]["desc"] for answer in answers if "error" in answer]

    assert refusals() == []
    assert refusals("-device", "cpu-caches") == ["State blocked by non-migratable device 'cpu-caches'"]


class StoppedMachine:
    """A machine whose CPUs are stopped. The protocol qtest accesses its ports."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def _ask(self, request: str) -> str:
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
        self._ask(f"out{size} {port:#x} {value:#x}")

    def _select(self, at: int) -> int:
        self.out(0xCF8, 1 << 31 | NVME | at & ~3)
        return 0xCFC + (at & 3)

    def config(self, at: int) -> int:
        port = self._select(at)
        return int(self._ask(f"inw {port:#x}").split()[1], 0)

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


@pytest.fixture
def machine(program: Path, request: pytest.FixtureRequest) -> Iterator[StoppedMachine]:
    option = getattr(request, "param", "on")
    words = ["-machine", "q35", "-m", "64M", "-device", f"nvme,addr=3,serial=x,x-no-snoop={option}", "-qtest", "stdio"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command(program, *words), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield StoppedMachine(process)
        process.kill()


def flr(machine: StoppedMachine) -> None:
    """A reset of the function, which its driver starts."""
    machine.set_config(machine.control(), machine.config(machine.control()) | START_FLR)


def full_reset(machine: StoppedMachine) -> None:
    """A reset of the machine by the port of its chip set."""
    machine.set_config(0x3C, 0x5A)
    machine.out(0xCF9, 6, "b")
    wait_until(lambda: machine.config(0x3C) & 0xFF != 0x5A)


@pytest.mark.parametrize("reset", [flr, full_reset])
def test_a_reset_clears_enable_no_snoop(machine: StoppedMachine, reset: Callable[[StoppedMachine], None]) -> None:
    control = machine.control()
    assert not machine.config(control) & ENABLE_NO_SNOOP
    machine.set_config(control, machine.config(control) | ENABLE_NO_SNOOP)
    assert machine.config(control) & ENABLE_NO_SNOOP
    reset(machine)
    assert not machine.config(control) & ENABLE_NO_SNOOP


@pytest.mark.parametrize("machine", ["off"], indirect=True)
def test_a_device_that_snoops_has_no_such_bit(machine: StoppedMachine) -> None:
    machine.set_config(machine.control(), ENABLE_NO_SNOOP)
    assert not machine.config(machine.control()) & ENABLE_NO_SNOOP
