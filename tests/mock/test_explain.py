# SPDX-License-Identifier: MIT
"""`iommufd explain` on a program in C that maps memory for the kernel's mock device."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import MediatedDevice, SkipError
from iommufd_py.base.environment import Platform
from iommufd_py.explain.process import process_state
from iommufd_py.host import environment
from tests import foreign
from tests.conftest import need_tracing
from tests.mock.processes import in_child
from tests.programs import IOMMUFD
from tests.waiting import DEFAULT_SIGNALS, patience

pytestmark = pytest.mark.usefixtures("mock_driver")

Cli = Callable[..., subprocess.CompletedProcess[str]]
TRACING = Path("/sys/kernel/tracing")
MIB = 1 << 20
NOBODY = 65534


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.build_dma_user(tmp_path_factory.mktemp("foreign"))


def nothing_is_left() -> bool:
    instances = list((TRACING / "instances").iterdir())
    return not instances and "iommufd_py" not in (TRACING / "dynamic_events").read_text()


def test_state_of_a_process_that_does_nothing(cli: Cli, program: Path) -> None:
    with foreign.running(program, "mock", "touched:8", "wait") as process:
        done = cli("explain", "--pid", str(process.pid), "--seconds", "0", "--json")
        text = cli("explain", "--pid", str(process.pid), "--seconds", "0").stdout
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["watched"] is None
    assert document["not_watched"] == ""
    state = document["process"]
    assert (state["pid"], state["name"]) == (process.pid, "dma_user")
    assert [(one["kind"], one["path"]) for one in state["descriptors"]] == [("iommufd", "/dev/iommu")]
    assert state["pinned_bytes"] == 8 * MIB
    area = state["areas"][0]
    assert (area["kind"], area["page_bytes"]) == ("anonymous memory", 4096)
    assert 8 * MIB <= area["present"] <= 9 * MIB
    assert sum(int(size) * count for size, count in area["runs"].items()) == area["present"]
    # The mock driver's tables are real.
    assert document["page_tables"]["before"]["iommu_bytes"] > 8 * MIB // 4096 * 8
    assert f"process:      {process.pid} dma_user\n" in text
    assert "pinned:       8 MiB (VmPin)" in text


def test_a_mediated_device_is_named(cli: Cli, mediated: MediatedDevice) -> None:
    """This process has it open."""
    uuid = str(mediated.uuid)
    text = cli("explain", "--pid", str(os.getpid()), "--seconds", "0").stdout
    assert re.search(rf"VFIO cdev, descriptor \d+: {uuid}\n", text), text
    assert f"device:       {uuid}, behind no IOMMU\n" in text


def test_a_kernel_without_tracing_shows_the_state_and_says_so(cli: Cli, program: Path) -> None:
    if environment().platform != Platform.UML:
        pytest.skip("this kernel can trace")
    with foreign.running(program, "mock", "touched:1", "wait") as process:
        done = cli("explain", "--pid", str(process.pid))
    assert done.returncode == 4
    assert "pinned:       1 MiB" in done.stdout
    lacking = (
        # Lock debugging selects the trace events.
        "this kernel has no dynamic probes: it needs CONFIG_KPROBE_EVENTS or CONFIG_FPROBE_EVENTS"
        if TRACING.exists()
        else "this kernel has no tracefs: it is built without CONFIG_FTRACE"
    )
    assert done.stderr == f"iommufd: skipped: the maps cannot be watched: {lacking}\n"


@pytest.mark.parametrize(
    ("pid", "status", "message"),
    [
        ("0", 2, "0 is not in the range"),
        (
            "1",
            1,
            "process 1 (",
        ),
        ("4194303", 1, "there is no process 4194303"),
    ],
)
def test_wrong_processes(cli: Cli, pid: str, status: int, message: str) -> None:
    done = cli("explain", "--pid", pid)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stdout == ""


def test_parts_of_a_map_and_its_unmap(cli: Cli, program: Path) -> None:
    need_tracing()
    with foreign.running(program, "mock", "map:4", "sleep", "unmap", "again:1000000") as process:
        done = cli("explain", "--pid", str(process.pid), "--seconds", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert nothing_is_left()
    watched = json.loads(done.stdout)["watched"]
    whole = [one for one in watched["ioctls"] if one["recorded_seconds"] == pytest.approx(one["seconds"], rel=0.05)]
    maps = [one for one in whole if one["ioctl"] == "IOMMU_IOAS_MAP" and one["returned"]]
    unmaps = [one for one in whole if one["ioctl"] == "IOMMU_IOAS_UNMAP" and one["returned"]]
    assert maps
    assert unmaps
    for one in maps:
        assert (one["iova"], one["length"], one["result"]) == (1 << 28, 4 * MIB, 0)
        parts = one["parts"]
        assert parts["fault-in"]["calls"] == 1024
        assert parts["pinning"]["calls"] >= 1
        assert sum(int(size) * count for size, count in one["runs"].items()) == 4 * MIB
        assert sum(part["seconds"] for part in parts.values()) == pytest.approx(one["recorded_seconds"])
    assert all(one["parts"]["unpinning"]["calls"] >= 1 for one in unmaps)
    assert watched["probe_seconds"] > 0
    assert watched["mapped_areas"] == [] or watched["mapped_areas"][0]["kind"] == "anonymous memory"


def test_the_process_ends_while_it_is_watched(cli: Cli, program: Path) -> None:
    need_tracing()
    with (
        foreign.running(program, "mock", "touched:1", "wait", "unmap") as process,
        subprocess.Popen(
            [IOMMUFD, "explain", "--pid", str(process.pid), "--seconds", "3600"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as explaining,
    ):
        assert explaining.stderr
        assert explaining.stderr.readline().startswith("watching process ")
        process.communicate("\n")
        output, errors = explaining.communicate(timeout=patience(60))
    assert (explaining.returncode, errors) == (0, "")
    assert "s, the process ended\n" in output
    assert "IOMMU_IOAS_UNMAP" in output
    assert nothing_is_left()


def test_ctrl_c_shows_what_was_seen(program: Path) -> None:
    need_tracing()
    with foreign.running(program, "mock", "map:1", "sleep", "unmap", "again:1000000") as process:
        command = [*DEFAULT_SIGNALS, IOMMUFD, "explain", "--pid", str(process.pid), "--seconds", "3600"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as explaining:
            assert explaining.stderr
            assert explaining.stderr.readline().startswith("watching process ")
            time.sleep(5)  # The watch records maps in this time.
            explaining.send_signal(signal.SIGINT)
            output, errors = explaining.communicate(timeout=patience(60))
    assert (explaining.returncode, errors) == (130, "")
    assert "s, interrupted\n" in output
    assert "IOMMU_IOAS_MAP" in output
    assert nothing_is_left()


def test_another_users_process_is_refused(program: Path) -> None:
    with foreign.running(program, "mock", "wait") as process:

        def refused() -> None:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with pytest.raises(SkipError, match="may not be read: run as root, or with sudo"):
                process_state(process.pid)

        in_child(refused)
