# SPDX-License-Identifier: MIT
"""A remedy that needs a guest, or another machine, is followed: the same command then succeeds there."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iommufd_py.lab.machine import TEST_DEVICES
from iommufd_py.lab.source import unpacked_trees
from tests.following import Change, Cli, Words, follow, found_in, give, in_place_of, leave_out, message_of
from tests.programs import IOMMUFD, SEARCH_PATH
from tests.waiting import patience

DEVICE = TEST_DEVICES[0]


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of the test, shared with the guest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", SEARCH_PATH)
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=patience(180), check=False)


def in_guest(options: str, command: str) -> subprocess.CompletedProcess[str]:
    """Boot a guest for one command of a shell."""
    return run(IOMMUFD, "lab", "run", "--fresh", *shlex.split(options), "--", "sh", "-c", command)


@contextmanager
def warm_guest(options: str = "") -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """A guest for several commands of a shell."""
    started = run(IOMMUFD, "lab", "up", *shlex.split(options))
    assert started.returncode == 0, started.stderr
    try:
        yield lambda command: run(IOMMUFD, "lab", "run", *shlex.split(options), "--", "sh", "-c", command)
    finally:
        run(IOMMUFD, "lab", "down", started.stdout.strip())


def as_a_run(words: Words, found: re.Match[str]) -> Words:
    """Run a command in place of the shell, with the same options."""
    return [*found[1].split(), *words[2:], "--", "true"]


@pytest.mark.parametrize(
    ("command", "remedy", "change"),
    [
        ("lab run --fresh --native --cpus 2 -- true", r"only the mock driver's IOMMU: leave out (--cpus)$", leave_out),
        ("lab run --fresh --native --kernel stok -- true", r"no kernel 'stok': give (\w+), ", in_place_of("stok")),
        ("lab run --fresh --native --series 6.12 -- true", r"; choose (\S+) .*with --series$", in_place_of("6.12")),
        ("lab run --fresh --native --timeout 1 -- sleep 3", r"give a larger (--timeout); ", give("60")),
        (
            "lab shell --native",
            r"a shell needs a terminal; run a command with: iommufd (lab run) -- COMMAND$",
            as_a_run,
        ),
    ],
)
def test_options_of_a_guest(cli: Cli, command: str, remedy: str, change: Change) -> None:
    follow(cli, command.split(), remedy, change)


def test_directory_that_is_gone(shared: Path) -> None:
    """A guest shares the current directory."""
    command = f"{IOMMUFD} lab run --fresh --native -- true"
    refused = run("sh", "-c", f"mkdir gone && cd gone && rmdir ../gone && {command}")
    found_in(refused, "the current directory does not exist any more: change to another one$")
    assert run("sh", "-c", f"cd {shared} && {command}").returncode == 0


def test_guest_that_runs_out_of_memory(cli: Cli) -> None:
    use_it = "all = [bytearray(16 << 20) for _ in range(40)]"
    words = ["lab", "run", "--fresh", "--native", "--memory", "512M", "--", "python", "-c", use_it]
    killed = cli(*words)
    assert killed.returncode != 0
    found = re.search(r"ran out of memory and killed python\S*: give it more with (--memory)$", killed.stderr.strip())
    assert found is not None, killed.stderr
    assert cli(*give("1G")(words, found)).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts, in a mount namespace of its own")
def test_tree_that_was_built_in(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlay leaves the lab's source as it is. The build is stopped when the compiler starts."""
    trees = unpacked_trees()
    if not trees:
        pytest.skip("no kernel source is unpacked yet: run 'iommufd lab kernel build'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    parts = ",".join(f"{name}={shared}/mounted/{name[:-3]}" for name in ("upperdir", "workdir"))
    setup = (
        "mkdir -p mounted && mount -t tmpfs none mounted && mkdir mounted/upper mounted/work mounted/tree && "
        f"mount -t overlay -o lowerdir={trees[0].path},{parts} none mounted/tree && touch mounted/tree/.config"
    )
    build = f"{IOMMUFD} lab kernel build --source {shared}/mounted/tree"
    refused = run("unshare", "-m", "sh", "-c", f"{setup} && {build}")
    clean = found_in(refused, r"was built in and cannot be built from outside; run: (make .* mrproper)$")[1]
    words = ["unshare", "-m", "sh", "-c", f"{setup} && {clean} >&2 && exec {build}"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as building:
        assert building.stderr is not None
        printed = []
        for line in building.stderr:
            printed.append(line)
            if "compiling" in line:
                break
        building.terminate()
        building.communicate()
    assert "compiling" in printed[-1], printed


def test_domain_of_another_coherency() -> None:
    """Each of two machines refuses one wish, and the message names the option of the other machine, which grants it."""
    wishes = ("coherent", "non-coherent")
    map_it = f"iommufd map --bind --device {DEVICE} --size 4K --coherency"
    script = "; ".join(f"{map_it} {wish} 2>&1; echo END" for wish in wishes)
    answers = {
        wish: dict(zip(wishes, in_guest(f"--{wish}", script).stdout.split("END\n"), strict=False)) for wish in wishes
    }
    for machine, wish in (wishes, wishes[::-1]):
        found = re.search(r"'iommufd lab run --(\S+)'", answers[machine][wish])
        assert found is not None, answers
        assert found[1] == wish
        assert "everything is undone" in answers[found[1]][wish], answers


@pytest.mark.parametrize(
    ("options", "command", "remedy", "right"),
    [
        (
            "--append intel_iommu=off",
            f"iommufd device bind {DEVICE}",
            r"the firmware reports a VT-d: boot with (intel_iommu=on), without iommu=off$",
            "--append {}",
        ),
    ],
)
def test_another_machine(options: str, command: str, remedy: str, right: str) -> None:
    found = found_in(in_guest(options, command), remedy)
    done = in_guest(right.format(*found.groups()), command)
    assert done.returncode == 0, message_of(done)


def use_through(interface: str, device: str) -> str:
    """Return a command that uses a device. A container needs no other program of the tool, which start slowly."""
    if interface == "iommufd":
        return f"iommufd map --size 4K --device {device}"
    return f'python -c \'from iommufd_py import open_container; open_container("{interface}", "{device}").close()\''


def test_group_with_a_device_on_another_driver() -> None:
    """Two functions of one card are in one group. There are three ways to free the group."""
    disk, device = "0000:00:1b.0", "0000:00:1b.1"
    card = "--device nvme,addr=0x1b.0,multifunction=on,serial=both --device edu,addr=0x1b.1"
    with warm_guest(card) as guest:
        told = message_of(guest(f"iommufd device bind {device}"))
        whole_group = re.search(r"free: \S+ \(nvme\); '(iommufd device bind --group \S+)' takes them too$", told)
        assert whole_group is not None, told

        def free_by(command: str, interface: str) -> None:
            assert guest(command).returncode == 0
            done = guest(use_through(interface, device))
            assert done.returncode == 0, message_of(done)
            assert guest(f"iommufd device restore {disk}").returncode == 0

        remedy = r"another driver has a device of the group \('(iommufd device show) BDF'\)"
        show = found_in(guest(use_through("iommufd", device)), remedy)[1]
        shown = re.search(r"free: (\S+) \(nvme\)", guest(f"{show} {device}").stdout)
        assert shown is not None
        free_by(f"iommufd device unbind {shown[1]}", "iommufd")
        remedy = r"\(nvme\); '(iommufd device bind \S+)' takes them"
        free_by(found_in(guest(use_through("vfio_type1v2", device)), remedy)[1], "vfio_type1v2")
        free_by(whole_group[1], "iommufd")
