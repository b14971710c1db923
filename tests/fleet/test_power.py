# SPDX-License-Identifier: MIT
"""Machines with a power switch: a Strategy boots kernels, and a hanging machine gets a power cycle."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

from iommufd_py.fleet import record
from iommufd_py.fleet.lending import Lender, LendingError
from iommufd_py.fleet.record import RunnerState
from tests.fleet.lab import Host, Lab
from tests.waiting import patience, wait_until

# The power switch ends the process that acts as the machine. A file names the kernel of its next boot, and another one
# the seconds until the machine answers.
POWER = """
case $1 in
off) kill -s KILL $(cat pid) ;;
on) (sleep $(cat slow); KERNEL=$(cat next) exec "$PYTHON" "$SSH_HOST" . "$PORT") >>log 2>&1 </dev/null & echo $! >pid ;;
esac
"""
STRATEGY = """
import pathlib

import attr
from labgrid.factory import target_factory
from labgrid.strategy import Strategy


@target_factory.reg_driver
@attr.s(eq=False)
class Switched(Strategy):
    bindings = {"power": "PowerProtocol"}
    directory = attr.ib(validator=attr.validators.instance_of(str))

    def transition(self, status):
        pathlib.Path(self.directory, "next").write_text(status)
        self.target.activate(self.power)
        self.power.cycle()
"""
STEP = """
import os, pathlib, time


def test_it():
    here = pathlib.Path(os.environ["HOST_DIRECTORY"])
    with (here / "ran").open("a") as file:
        print(os.environ.get("KERNEL", "installed"), file=file)
    while (here / "hang").exists():
        (here / "begun").touch()
        time.sleep(0.1)
"""


@pytest.fixture
def switched(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    try:
        found.write_places({"spr0": {"kind": "switched"}})
        found.start_coordinator()
        host = found.add_host("spr0")
        found.start_exporter()
        write_environment(tmp_path, host)
        yield found
    finally:
        os.kill(int((tmp_path / "spr0/pid").read_text()), signal.SIGKILL)
        found.stop()


def write_environment(directory: Path, host: Host) -> None:
    (host.directory / "pid").write_text(str(host.process.pid))
    program = Path(__file__).with_name("ssh_host.py")
    variables = f"PYTHON={sys.executable} SSH_HOST={program} PORT={host.port} PYTHONPATH={Path.cwd()}"
    (host.directory / "power.sh").write_text(f"cd {host.directory} && export {variables}\n{POWER}")
    (host.directory / "next").write_text("installed")
    (host.directory / "slow").write_text("0")
    (directory / "switched.py").write_text(STRATEGY)
    power = {f"cmd_{what}": f"sh {host.directory}/power.sh {what}" for what in ("on", "off")}
    environment = {
        "targets": {
            "spr0": {
                "resources": {"RemotePlace": {"name": "spr0"}},
                "drivers": {
                    "ExternalPowerDriver": power | {"delay": 0.1},
                    "SSHDriver": {},
                    "Switched": {"directory": str(host.directory)},
                },
            }
        },
        "imports": [str(directory / "switched.py")],
    }
    (directory / "lab.yaml").write_text(json.dumps(environment))


ON_PATCHED = f'lost_after = "{patience(60):.0f}s"\nkernels = ["patched"]'


def plan(directory: Path, top: str) -> Path:
    (directory / "test_step.py").write_text(STEP)
    path = directory / "plan.toml"
    path.write_text(
        f'name = "boots"\nenvironment = "lab.yaml"\n{top}\n[[runners]]\nfilter = {{ kind = "switched" }}\n'
        '[[steps]]\nrun = "pytest"\nfiles = ["test_step.py"]\noptions = ["-q", "test_step.py"]\n'
    )
    return path


def test_a_strategy_boots_each_kernel_and_the_installed_one_at_the_end(switched: Lab, tmp_path: Path) -> None:
    top = f'lost_after = "{patience(60):.0f}s"\nkernels = ["stock", "patched"]\nbaseline = "stock"'
    process = switched.fleet(plan(tmp_path, top), tmp_path / "out")
    told = process.communicate(timeout=patience(180))[1]
    assert process.returncode == 0, told
    assert (tmp_path / "spr0/ran").read_text().split() == ["stock", "patched"]
    assert (tmp_path / "spr0/next").read_text() == "installed"
    found = record.load_record(tmp_path / "out/spr0")
    assert ([one.name for one in found.kernels], found.baseline) == (["stock", "patched"], "stock")
    assert [(one.kernel, one.exit_status) for one in found.steps] == [("stock", 0), ("patched", 0)]


def run_that_hangs(lab: Lab, directory: Path, top: str) -> subprocess.Popen[str]:
    """Start a run, and return it when its step has begun and hangs."""
    host = lab.hosts["spr0"]
    (host.directory / "hang").touch()
    process = lab.fleet(plan(directory, top), directory / "out")
    wait_until(lambda: (host.directory / "begun").exists())
    return process


def test_a_machine_that_hangs_is_lost_and_switched_off_and_on(switched: Lab, tmp_path: Path) -> None:
    host = switched.hosts["spr0"]
    process = run_that_hangs(switched, tmp_path, 'lost_after = "5s"')
    host.process.send_signal(signal.SIGSTOP)
    told = process.communicate(timeout=patience(180))[1]
    assert process.returncode == 1, told
    assert record.load_record(tmp_path / "out/spr0").state is RunnerState.LOST
    assert int((host.directory / "pid").read_text()) != host.process.pid, "it runs again"
    assert switched.holders() == {}
    (host.directory / "hang").unlink()


def test_ctrl_c_boots_the_installed_kernel_again(switched: Lab, tmp_path: Path) -> None:
    host = switched.hosts["spr0"]
    process = run_that_hangs(switched, tmp_path, ON_PATCHED)
    # A server boots longer than labgrid waits for ssh.
    (host.directory / "slow").write_text("15")
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=patience(180))[1]
    assert process.returncode == 130, told
    assert (host.directory / "next").read_text() == "installed"
    found = record.load_record(tmp_path / "out/spr0")
    assert (found.state, found.reason) == (RunnerState.STOPPED, "the run was interrupted"), told
    assert switched.holders() == {}
    (host.directory / "hang").unlink()


def take_away(lender: Lender, place: str) -> None:
    """Take a place that a run holds, as `labgrid-client release --kick` and `acquire` do."""
    while True:
        lender._ask("ReleasePlace", messages.ReleasePlaceRequest(placename=place), place)
        # The run takes its place again within a second.
        with contextlib.suppress(LendingError):
            return lender.acquire(place)


def test_a_machine_that_somebody_else_took_is_left_alone(switched: Lab, tmp_path: Path) -> None:
    host = switched.hosts["spr0"]
    process = run_that_hangs(switched, tmp_path, ON_PATCHED)
    running = (host.directory / "pid").read_text()
    with switched.lender() as lender:
        take_away(lender, "spr0")
        told = process.communicate(timeout=patience(180))[1]
        assert lender.holder("spr0") == lender._name
    assert process.returncode == 1, told
    found = record.load_record(tmp_path / "out/spr0")
    assert found.state is RunnerState.LOST
    assert found.reason.startswith("the coordinator does not lend it to this run any more: "), told
    assert ((host.directory / "next").read_text(), (host.directory / "pid").read_text()) == ("patched", running)
    (host.directory / "hang").unlink()
