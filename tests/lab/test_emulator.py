# SPDX-License-Identifier: MIT
"""The emulator itself, without a guest: the machines that its model refuses, and Enable No Snoop after a reset."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.progress import Silent
from tests.lab.stopped_machine import SLOT, StoppedMachine, emulator_command
from tests.waiting import patience, wait_until

ENABLE_NO_SNOOP, START_FLR = 1 << 11, 1 << 15


@pytest.fixture(scope="module")
def program() -> Path:
    return build_emulator(Silent()).program


def qmp(program: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Start the emulator with *words*, send it the request to end, and return its answers."""
    lines = ['{"execute": "qmp_capabilities"}', '{"execute": "quit"}']
    return subprocess.run(
        [*emulator_command(program, "-S", "-accel", "tcg,thread=single", *words), "-qmp", "stdio"],
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


def refusals(program: Path, *words: str) -> list[str]:
    """Migrate a machine to nowhere, end the emulator after that, and return the errors that it answered."""
    events = {"capabilities": [{"capability": "events", "state": True}]}
    requests = (
        {"execute": "qmp_capabilities"},
        {"execute": "migrate-set-capabilities", "arguments": events},
        {"execute": "migrate", "arguments": {"uri": "exec:cat >/dev/null"}},
    )
    argv = [*emulator_command(program, "-S", "-accel", "tcg,thread=single", *words), "-qmp", "stdio"]
    pipe = subprocess.PIPE
    errors: list[str] = []
    with subprocess.Popen(["timeout", f"{patience(60):g}", *argv], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print(*map(json.dumps, requests), sep="\n", file=process.stdin, flush=True)
        for answer in map(json.loads, process.stdout):
            errors += [answer["error"]["desc"]] if "error" in answer else []
            # QEMU 7.2 can abort if it quits while it migrates.
            if errors or answer.get("data") == {"status": "completed"}:
                break
        process.communicate('{"execute": "quit"}\n')
    assert process.returncode == 0
    return errors


def test_a_machine_with_caches_does_not_migrate(program: Path) -> None:
    """The content of memory behind the caches would be lost."""
    assert refusals(program, "-machine", "q35") == []
    blocked = ["State blocked by non-migratable device 'cpu-caches'"]
    assert refusals(program, "-machine", "q35", "-device", "cpu-caches") == blocked


@pytest.fixture
def machine(program: Path, request: pytest.FixtureRequest) -> Iterator[StoppedMachine]:
    option = getattr(request, "param", "on")
    device = f"nvme,addr={SLOT},serial=x,x-no-snoop={option}"
    with StoppedMachine.start(program, "-S", "-accel", "tcg,thread=single", "-device", device) as started:
        yield started


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
