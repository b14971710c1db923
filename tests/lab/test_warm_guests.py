# SPDX-License-Identifier: MIT
"""Warm guests: `iommufd lab up` starts them and `iommufd lab run` uses them. Most tests boot native ones."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iommufd_py.base.sysfs import start_ticks
from iommufd_py.lab import kernel, paths
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.machine import NativeMachine
from iommufd_py.lab.progress import Silent
from iommufd_py.lab.warm.guests import warm_guests
from iommufd_py.lab.warm.keeper import start_guest
from tests.programs import IOMMUFD
from tests.waiting import DEFAULT_SIGNALS, patience, wait_until


@pytest.fixture(scope="module")
def image() -> Path:
    return kernel.image("stock", Silent(), Configuration("um"))


@pytest.fixture(autouse=True)
def own_guests(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A separate cache with the kernels of the real one. The current directory is shared with the guests."""
    kernels = paths.kernels_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths.cache_root().mkdir(parents=True)
    paths.kernels_dir().symlink_to(kernels)
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.chdir(shared)
    yield shared
    for guest in warm_guests():
        guest.end()


def lab(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    options = {"capture_output": True, "text": True, "check": False, "timeout": patience(120)} | options
    return subprocess.run([*DEFAULT_SIGNALS, IOMMUFD, "lab", *arguments], **options)


def run(*command: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return lab("run", "--native", *options, "--", *command)


def up(*options: str) -> str:
    started = lab("up", "--native", "--stay", *options)
    assert started.returncode == 0, started.stderr
    assert "it ends with process" not in started.stderr
    return started.stdout.strip()


def boots() -> int:
    """Return the number of guests that were booted for a single command."""
    return len(list(paths.runs_dir().glob("*"))) if paths.runs_dir().exists() else 0


def test_commands_run_one_after_the_other_in_one_guest(own_guests: Path) -> None:
    assert up() == "stock-um-1"
    first = run("sh", "-c", "echo out; echo err >&2; cat; pwd; touch written; mkdir /tmp/left; exit 7")
    assert (first.returncode, first.stdout, first.stderr) == (7, f"out\n{own_guests}\n", "err\n")
    assert (own_guests / "written").exists()
    assert run("ls", "-d", "/tmp/left").stdout == "/tmp/left\n", "it is the same guest"
    assert not Path("/tmp/left").exists()
    assert boots() == 0


@pytest.mark.parametrize("machine", [("--native",), ("--kernel", "stock")])
@pytest.mark.parametrize("place", ["shared", "."])
def test_a_command_reads_files_as_they_are_now(machine: tuple[str, ...], place: str, tmp_path: Path) -> None:
    """The guest caches the files of its root, but not those of the shared directory."""
    assert lab("up", *machine, "--stay").returncode == 0
    files = tmp_path / place / "files"
    files.mkdir()
    (files / "old").write_text("before\n")
    show = ("run", *machine, "--", "sh", "-c", f"cd {files}; ls; cat *")
    assert lab(*show).stdout == "old\nbefore\n"
    (files / "old").write_text("after, and longer\n")
    (files / "new").write_text("new\n")
    assert lab(*show).stdout == "new\nold\nnew\nafter, and longer\n"
    assert boots() == 0


def test_a_job_that_has_ended_never_runs_again(own_guests: Path) -> None:
    """A list of the guest's caches can still have the job when the host has removed the file of its status."""
    up()
    (guest,) = warm_guests()
    job = guest.spool / "1-1.job"
    job.write_text(f"echo run >> {own_guests}/runs")
    for _ in range(2):
        wait_until(job.with_suffix(".status").exists)
        job.with_suffix(".status").unlink()
        assert run("true").returncode == 0, "the guest has looked at the spool again"
        job.with_suffix(".status").touch()
    assert (own_guests / "runs").read_text() == "run\n"


def test_a_large_output_arrives_whole() -> None:
    up()
    done = run("sh", "-c", "yes 0123456789 | head -c 3000000")
    assert len(done.stdout) == 3_000_000


def test_a_kernel_given_by_its_path_has_its_file_name(image: Path) -> None:
    assert up("--kernel", str(image)) == f"{image.name}-1"
    assert run("uname", options=("--kernel", str(image))).stdout == "Linux\n"
    assert boots() == 0
    assert lab("down").returncode == 0


@pytest.mark.parametrize("options", [("--fresh",), ("--memory", "1G")])
def test_another_machine_and_fresh_boot_a_guest(options: tuple[str, ...]) -> None:
    up()
    run("mkdir", "/tmp/left")
    assert run("ls", "-d", "/tmp/left", options=options).returncode == 2
    assert boots() == 1


def test_another_directory_boots_a_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("pwd").stdout == f"{tmp_path}/elsewhere\n"
    assert boots() == 1


def test_list_and_down() -> None:
    names = [up(), up()]
    listed = json.loads(lab("list", "--json").stdout)["guests"]
    assert [one["name"] for one in listed] == names == ["stock-um-1", "stock-um-2"]
    which = re.search(
        r"2 warm guests run: (stock-um-1), stock-um-2; give a name, or --all$", lab("down").stderr.strip()
    )
    assert which is not None
    unknown = lab("down", "stock-9")
    assert (unknown.returncode, "there is no warm guest 'stock-9'" in unknown.stderr) == (2, True)
    keepers = [guest.keeper for guest in warm_guests()]
    assert lab("down", which[1]).returncode == 0
    assert lab("down").returncode == 0
    assert lab("list").stdout.splitlines()[1:] == []
    assert [start_ticks(keeper) for keeper in keepers] == [None, None]
    assert list(paths.guests_dir().iterdir()) == []


def test_a_guest_whose_record_is_damaged_is_ended_by_hand() -> None:
    name = up()
    (guest,) = warm_guests()
    (guest.directory / "guest.json").write_text("{")
    listed = lab("list")
    remedy = re.search(r'end it with "(kill \d+)", then remove its files with "(rm -r .*)"$', listed.stderr.strip())
    assert remedy is not None, listed.stderr
    subprocess.run(remedy[1], shell=True, check=True)
    wait_until(lambda: start_ticks(guest.keeper) is None)
    subprocess.run(remedy[2], shell=True, check=True)
    assert lab("list").stderr == ""
    assert up() == name


def test_a_guest_ends_with_the_script_that_started_it() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{IOMMUFD} lab up --native && {IOMMUFD} lab list --json && {IOMMUFD} lab run --native -- id -u"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "it ends with process " in done.stderr and "with --stay it ends with 'iommufd lab down' only" in done.stderr
    name, *document, user = done.stdout.splitlines()
    keeper = json.loads("\n".join(document))["guests"][0]["keeper"]
    assert (name, user) == ("stock-um-1", "0")
    wait_until(lambda: start_ticks(keeper) is None)
    assert wait_until(lambda: not warm_guests())


def test_a_killed_keeper_leaves_no_guest(image: Path) -> None:
    guest = start_guest(image, NativeMachine(), kernel_name="stock-um", rw=(), stay=True)
    kernels = lambda: [one for one in _processes() if str(guest.directory) in one]  # noqa: E731
    assert kernels()
    os.kill(guest.keeper, signal.SIGKILL)
    assert wait_until(lambda: not kernels())
    assert warm_guests() == []
    assert not guest.directory.exists()


def _processes() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_ctrl_c_ends_the_command_and_not_the_guest(own_guests: Path) -> None:
    name = up()
    command = [*DEFAULT_SIGNALS, IOMMUFD, "lab", "run", "--native", "--", "sh", "-c", "touch begun; sleep 1000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as child:
        wait_until((own_guests / "begun").exists)
        child.send_signal(signal.SIGINT)
        assert child.wait(patience(60)) == 130
    assert [one.name for one in (paths.guests_dir() / name / "spool").iterdir()] == ["ready"], (
        "no file of the job stays"
    )
    assert "sleep 1000" not in run("ps", "ax").stdout


def test_a_command_that_takes_too_long_is_stopped_and_the_guest_stays() -> None:
    up()
    slow = run("sleep", "1000", options=("--timeout", "1"))
    assert slow.returncode == 1
    assert "was stopped after" in slow.stderr
    after = run("ps", "ax")
    assert after.returncode == 0
    assert "sleep 1000" not in after.stdout
    assert boots() == 0


def test_a_second_command_waits_for_the_first(own_guests: Path) -> None:
    up()
    command = [IOMMUFD, "lab", "run", "--native", "--"]
    first = [*command, "sh", "-c", "touch begun; until [ -e go ]; do sleep 0.1; done; touch ended"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(first):
        wait_until((own_guests / "begun").exists)
        with subprocess.Popen([*command, "ls"], **pipes) as second:
            assert second.stderr is not None
            assert second.stdout is not None
            assert "runs another command; waiting" in second.stderr.readline()
            (own_guests / "go").touch()
            assert "ended" in second.stdout.read().split()


def test_a_report_of_the_kernel_fails_the_command_that_caused_it_alone() -> None:
    up()
    report = "WARNING: CPU: 0 PID: 1 at mm/slub.c:1 nothing+0x0/0x1"
    warned = run("sh", "-c", f"echo '{report}' > /dev/kmsg; echo '---[ end trace 0000000000000000 ]---' > /dev/kmsg")
    assert warned.returncode == 1
    assert "the guest's kernel reported: WARNING" in warned.stderr
    assert run("true").returncode == 0


def test_a_guest_that_dies_is_said_and_forgotten(own_guests: Path) -> None:
    up()
    died = run("python", "-c", "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)")
    assert died.returncode == 1
    assert "the guest ended before the command did" in died.stderr
    wait_until(lambda: not warm_guests())
    assert run("true").returncode == 0
    assert boots() == 1


def test_commands_of_a_guest_that_somebody_ends_say_so(own_guests: Path) -> None:
    """The name of the guest is free again, and its files are those of another guest."""
    name = up()
    command = [*DEFAULT_SIGNALS, IOMMUFD, "lab", "run", "--native", "--"]
    pipe: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "sh", "-c", "touch begun; sleep 1000"], **pipe) as first:
        wait_until((own_guests / "begun").exists)
        with subprocess.Popen([*command, "touch", "ran"], **pipe) as second:
            assert second.stderr is not None
            assert "runs another command; waiting" in second.stderr.readline()
            assert lab("down", name).returncode == 0
            assert up() == name
            endings = [one.communicate(timeout=patience(60))[1].splitlines() for one in (first, second)]
            assert (first.returncode, second.returncode) == (1, 1)
    assert endings == [
        [f"iommufd: error: the guest {name} was ended (iommufd lab down) before the command ended"],
        [f"iommufd: error: the guest {name} ended before it could run the command: run it again"],
    ]
    assert run("true").returncode == 0
    assert not (own_guests / "ran").exists()


def test_a_guest_that_does_not_come_up_says_why(image: Path, tmp_path: Path) -> None:
    broken = tmp_path / "linux"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o700)
    failed = lab("up", "--native", "--kernel", str(broken))
    assert failed.returncode == 1
    assert "the guest did not start" in failed.stderr
    assert list(paths.guests_dir().iterdir()) == []
