# SPDX-License-Identifier: MIT
"""`iommufd fleet run` on a lab of plain hosts: lending, steps, failures, and giving back."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py.fleet import record
from iommufd_py.fleet.record import RunnerState, StepState
from tests import command_examples
from tests.fleet.lab import BIN, Lab, plain_lab
from tests.fleet.ssh_host import LARGEST_FILE
from tests.programs import IOMMUFD
from tests.waiting import patience, wait_until


@pytest.fixture(scope="module")
def all_along(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with plain_lab(tmp_path_factory.mktemp("lab"), ("spr0", "skx0")) as found:
        yield found


@pytest.fixture
def plain(all_along: Lab) -> Iterator[Lab]:
    """The lab, with clean hosts."""
    yield all_along
    for host in all_along.hosts.values():
        for file in ("begun", "go-on", "drop"):
            (host.directory / file).unlink(missing_ok=True)


def plan(directory: Path, test: str, *, name: str = "plan.toml", count: int = 2, top: str = "", step: str = "") -> Path:
    """Write a plan that runs one pytest file on plain hosts."""
    (directory / f"{name}.d").mkdir()
    (directory / f"{name}.d" / "test_step.py").write_text(test)
    path = directory / name
    path.write_text(
        f'name = "try"\nlost_after = "{patience(30):.0f}s"\n{top}\n'
        f'[[runners]]\nfilter = {{ kind = "plain" }}\ncount = {count}\n'
        f'[[steps]]\nrun = "pytest"\nfiles = ["{name}.d/test_step.py"]\n'
        f'options = ["-q", "-p", "no:cacheprovider", "test_step.py"]\n{step}\n'
    )
    return path


def end(process: "subprocess.Popen[str]") -> str:
    """Wait for the end of a run, and return its messages."""
    return process.communicate(timeout=patience(180))[1]


WAITING_TEST = """
import os, pathlib, time
def test_waits():
    here = pathlib.Path(os.environ["HOST_DIRECTORY"])
    (here / "begun").touch()
    while not (here / "go-on").exists():
        time.sleep(0.1)
"""


def test_each_machine_runs_the_steps_and_is_given_back(plain: Lab, tmp_path: Path) -> None:
    process = plain.fleet(plan(tmp_path, "def test_it(): pass\n", top="repetitions = 2"), tmp_path / "out")
    told = end(process)
    assert process.returncode == 0, told
    assert plain.holders() == {}
    for name in ("spr0", "skx0"):
        found = record.load_record(tmp_path / "out" / name)
        assert (found.name, found.state, found.reason) == (name, RunnerState.DONE, "")
        assert found.tags == {"host": name, "kind": "plain"}
        assert [(one.repetition, one.state, one.exit_status) for one in found.steps] == [
            (1, StepState.ENDED, 0),
            (2, StepState.ENDED, 0),
        ]
        folder = tmp_path / "out" / name / found.steps[0].folder
        assert 'tests="1"' in (folder / "result.xml").read_text()
        assert "ok 1 test_step.py::test_it" in (folder / "result.ktap").read_text()
        assert list((plain.hosts[name].directory / "tmp").iterdir()) == [], "it leaves nothing on the machine"


@pytest.mark.parametrize("name", command_examples.examples(command_examples.FLEET))
def test_example(name: str, plain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test the examples of the reference that need labgrid."""
    monkeypatch.setenv("LG_COORDINATOR", plain.address)
    steps = dict(command_examples.example_steps((command_examples.DIRECTORY / "fleet-run.console").read_text()))
    (tmp_path / "plan.toml").write_text(steps["cat plan.toml"])
    (tmp_path / "test_step.py").write_text("def test_it(): pass\n")
    command_examples.check_example(name, tmp_path)


def test_the_wheel_is_installed_on_each_machine(plain: Lab, tmp_path: Path) -> None:
    checkout = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, checkout]
    subprocess.run(command, check=True, timeout=patience(300))
    (wheel,) = tmp_path.glob("*.whl")
    test = """
import os, iommufd_py
from iommufd_py import Iommufd  # Loads the extension.
def test_it():
    assert iommufd_py.__file__.startswith(os.environ["HOST_DIRECTORY"] + "/")
"""
    process = plain.fleet(plan(tmp_path, test, top=f'package = "{wheel.name}"'), tmp_path / "out")
    told = end(process)
    assert process.returncode == 0, told
    for name in ("spr0", "skx0"):
        (step,) = record.load_record(tmp_path / "out" / name).steps
        assert (step.state, step.exit_status) == (StepState.ENDED, 0)


def test_a_place_nobody_has_is_not_waited_for(plain: Lab, tmp_path: Path) -> None:
    path = plan(tmp_path, "", count=1)
    path.write_text(path.read_text().replace('"plain"', '"odd"'))
    process = plain.fleet(path, tmp_path / "out")
    told = end(process)
    assert process.returncode == 1
    assert "no place has the tags kind=odd" in told
    assert record.load_record(tmp_path / "out" / "runner 1").state is RunnerState.NOT_LENT


def test_one_machine_does_not_count_as_two(plain: Lab, tmp_path: Path) -> None:
    path = plan(tmp_path, "def test_it(): pass\n")
    path.write_text(path.read_text().replace('kind = "plain"', 'host = "spr0"'))
    process = plain.fleet(path, tmp_path / "out")
    told = end(process)
    assert process.returncode == 1, told
    (_, waited), (_, lent) = record.load_records(tmp_path / "out")
    assert (lent.name, lent.state, len(lent.steps)) == ("spr0", RunnerState.DONE, 1)
    assert (waited.state, waited.steps) == (RunnerState.NOT_LENT, ())
    assert waited.reason.startswith("spr0, which became free, has results of this run already; no other machine with")
    assert plain.holders() == {}


def test_ctrl_c_ends_the_steps_and_gives_everything_back(plain: Lab, tmp_path: Path) -> None:
    process = plain.fleet(plan(tmp_path, WAITING_TEST), tmp_path / "out")
    wait_until(lambda: all((one.directory / "begun").exists() for one in plain.hosts.values()))
    assert set(plain.holders()) == {"spr0", "skx0"}
    process.send_signal(signal.SIGINT)
    end(process)
    assert process.returncode == 130
    assert plain.holders() == {}
    for name in ("spr0", "skx0"):
        found = record.load_record(tmp_path / "out" / name)
        assert (found.state, found.reason) == (RunnerState.STOPPED, "the run was interrupted")
        assert [one.state for one in found.steps] == [StepState.STOPPED]
    assert running_tests() == []


def running_tests() -> list[str]:
    found = subprocess.run(["pgrep", "-af", "pytest.*--ktap result.ktap"], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if "pgrep" not in line]


def test_a_place_is_given_back_when_the_run_is_killed(plain: Lab, tmp_path: Path) -> None:
    process = plain.fleet(plan(tmp_path, WAITING_TEST, count=1), tmp_path / "out")
    wait_until(lambda: any((one.directory / "begun").exists() for one in plain.hosts.values()))
    process.kill()
    wait_until(lambda: not plain.holders())


def test_the_line_it_prints_frees_a_place_whose_worker_was_killed(plain: Lab, tmp_path: Path) -> None:
    process = plain.fleet(plan(tmp_path, WAITING_TEST, count=1), tmp_path / "out")
    wait_until(lambda: any((one.directory / "begun").exists() for one in plain.hosts.values()))
    (place,) = plain.holders()
    worker = int(plain.holders()[place].rpartition(".")[2])
    os.kill(worker, signal.SIGKILL)
    told = end(process)
    assert process.returncode == 1
    assert f"{place}: its worker ended with status -9" in told
    assert set(plain.holders()) == {place}, "nobody could give it back"
    assert record.load_record(tmp_path / "out" / place).state is RunnerState.RUNNING
    line = re.search(r"if this run is killed, free it: labgrid-client (.*)", told)
    assert line is not None
    subprocess.run([BIN / "labgrid-client", *line[1].split()], check=True, timeout=patience(60))
    assert plain.holders() == {}


def test_two_runs_at_once_share_the_machines(plain: Lab, tmp_path: Path) -> None:
    first = plain.fleet(plan(tmp_path, WAITING_TEST), tmp_path / "first")
    wait_until(lambda: all((one.directory / "begun").exists() for one in plain.hosts.values()))
    second = plain.fleet(plan(tmp_path, "def test_it(): pass\n", name="second.toml"), tmp_path / "second")
    assert second.stderr is not None
    assert [second.stderr.readline().partition(": ")[2] for _ in range(2)] == ["waits for kind=plain\n"] * 2
    waiting = record.load_records(tmp_path / "second")
    assert [(one.name, one.state) for _, one in waiting] == [
        ("runner 1", RunnerState.NOT_LENT),
        ("runner 2", RunnerState.NOT_LENT),
    ]
    for host in plain.hosts.values():
        (host.directory / "go-on").touch()
    for process in (first, second):
        told = end(process)
        assert process.returncode == 0, told


def test_a_dropped_connection_costs_no_step(plain: Lab, tmp_path: Path) -> None:
    process = plain.fleet(plan(tmp_path, WAITING_TEST, count=1), tmp_path / "out")
    wait_until(lambda: any((one.directory / "begun").exists() for one in plain.hosts.values()))
    (place,) = plain.holders()
    host = plain.hosts[place]
    (host.directory / "drop").touch()
    wait_until(lambda: not (host.directory / "drop").exists())
    (host.directory / "go-on").touch()
    told = end(process)
    assert process.returncode == 0, told
    assert [one.exit_status for one in record.load_record(tmp_path / "out" / place).steps] == [0]


def test_a_coordinator_that_restarts_does_not_lend_a_machine_twice(plain: Lab, tmp_path: Path) -> None:
    process = plain.fleet(plan(tmp_path, WAITING_TEST), tmp_path / "out")
    wait_until(lambda: all((one.directory / "begun").exists() for one in plain.hosts.values()))
    before = plain.holders()
    plain.restart_coordinator()
    # The coordinator has forgotten the places that it lent; the workers take their places again.
    wait_until(lambda: plain.holders() == before)
    for host in plain.hosts.values():
        (host.directory / "go-on").touch()
    told = end(process)
    assert process.returncode == 0, told
    assert plain.holders() == {}


def test_a_step_that_takes_too_long_is_ended(plain: Lab, tmp_path: Path) -> None:
    process = plain.fleet(plan(tmp_path, WAITING_TEST, count=1, step='deadline = "3s"'), tmp_path / "out")
    told = end(process)
    (folder,) = record.folders(tmp_path / "out")
    found = record.load_record(folder)
    assert (process.returncode, found.state) == (0, RunnerState.DONE), told
    assert [(one.state, one.exit_status) for one in found.steps] == [(StepState.TIMED_OUT, None)]
    assert running_tests() == []


def test_a_full_disk_is_named(plain: Lab, tmp_path: Path) -> None:
    # A file larger than the hosts allow gives the same error as a full disk.
    path = plan(tmp_path, "def test_it(): pass\n", count=1)
    with (tmp_path / "plan.toml.d" / "large").open("wb") as file:
        file.truncate(2 * LARGEST_FILE)
    path.write_text(path.read_text().replace('"plan.toml.d/test_step.py"', '"plan.toml.d/large"'))
    process = plain.fleet(path, tmp_path / "out")
    told = end(process)
    assert process.returncode == 1
    (folder,) = record.folders(tmp_path / "out")
    found = record.load_record(folder)
    assert found.state is RunnerState.FAILED, told
    assert found.reason.startswith("large cannot be put on the machine: ")
    assert [one.state for one in found.steps] == [StepState.FAILED]
    assert plain.holders() == {}


def test_remedies_of_a_run_that_cannot_begin(plain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the option and the variable for another coordinator, and asks for another directory."""
    path = plan(tmp_path, "def test_it(): pass\n", count=1)
    monkeypatch.delenv("LG_COORDINATOR", raising=False)

    def run(output: str, *options: str) -> "subprocess.CompletedProcess[str]":
        words = [IOMMUFD, "fleet", "run", path, "--output", tmp_path / output, *options]
        return subprocess.run(words, capture_output=True, text=True, timeout=patience(180), check=False)

    refused = run("out", "--coordinator", "127.0.0.1:9")
    other = re.search(
        r"no labgrid coordinator answers .*, or name another one by (--\w+) or (\w+)$", refused.stderr, re.M
    )
    assert refused.returncode == 1
    assert other is not None, refused.stderr
    refused = run("out", other[1], plain.address)
    assert refused.returncode == 1
    assert refused.stderr.endswith("out is not empty: name another directory for the results\n")
    assert run("by option", other[1], plain.address).returncode == 0
    monkeypatch.setenv(other[2], plain.address)
    assert run("by variable").returncode == 0
