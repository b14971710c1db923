# SPDX-License-Identifier: MIT
"""`iommufd map`, `shell`, `trace` and -v on the kernel's mock device."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from iommufd_py import DmaBuffer, Iommufd, MockDevice, flush_count
from tests.conftest import need_tracing
from tests.programs import IOMMUFD
from tests.terminal import TerminalSession
from tests.waiting import patience

pytestmark = pytest.mark.usefixtures("mock_driver")

Cli = Callable[..., subprocess.CompletedProcess[str]]

REPORT = """
other = iommufd.alloc_ioas()
buffer = DmaBuffer(64 << 10)
hwpt = device.alloc_hwpt(ioas)
device.attach(hwpt)
mapping = ioas.map(buffer, 0x1000000)
with expect("EEXIST"):
    ioas.map(buffer, 0x1000000)
copy = other.copy(mapping)
copy.close()
device.detach()
mapping.close()
with expect("ENOENT"):
    ioas.unmap(0x1000000, 64 << 10)
print("replayed")
"""

# Reports about an IOMMU_IOAS_UNMAP that cuts a mapping, an unaligned IOMMU_IOAS_COPY, IOVAs at the end of 64 bits.
OVERLAP = """
other = iommufd.alloc_ioas()
buffer = DmaBuffer(64 << 10)
mapping = ioas.map(buffer, 0x10000000)
for iova, length in ((0x10004000, 16 << 10), (0x0FFF8000, 64 << 10), (0x20000000, 64 << 10)):
    with expect("ENOENT"):
        ioas.unmap(iova, length)
with device.attach(other), expect("EINVAL"):
    other.copy(mapping, 0x10000400)
other.map(buffer, 0xFFFFFFFFFFFF0000)
for _ in range(2):
    print(other.unmap_all())
"""


def document(done: subprocess.CompletedProcess[str]) -> dict:
    schema = json.loads((resources.files("iommufd_py.cli") / "schemas" / "iommufd-map-1.json").read_text())
    found = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schema).validate(found)
    return found


def test_one_map_is_reported_and_undone(cli: Cli) -> None:
    done = cli("map", "--device", "mock", "--size", "64K", "--iova", "0x1000000")
    assert done.returncode == 0, done.stderr
    for text in ("coherency: non-coherent", "VFIO_DMA_CC_IOMMU=0", "pinned_bytes: 64K", "iova: 0x1000000"):
        assert text in done.stdout
    assert re.search(r"^     IOMMU_IOAS_MAP: [\d.]+ [num]s$", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1] == "everything is undone"


def test_coherency_that_is_wanted_is_had_or_refused(cli: Cli, iommufd: Iommufd) -> None:
    done = cli("map", "--device", "mock", "--size", "64K", "--coherency", "coherent")
    if flush_count(iommufd) is None:
        assert done.returncode == 1
        assert "is non-coherent, not coherent: VFIO_DMA_CC_IOMMU=0" in done.stderr
        assert "a mock device can be coherent on a kernel with our flush series only" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "coherency: coherent" in done.stdout


def test_json_is_as_described(cli: Cli) -> None:
    found = document(cli("map", "--device", "mock", "--size", "64K", "--json"))
    assert found["succeeded"] is True
    assert [step["do"] for step in found["steps"]] == ["ioas", "hwpt", "attach", "buffer", "map"]
    (mapped,) = [call for call in found["steps"][-1]["ioctls"] if call["ioctl"] == "IOMMU_IOAS_MAP"]
    assert mapped["result"] == 0
    assert mapped["arguments"]["length"] == 65536


def test_a_report_is_replayed(cli: Cli, tmp_path: Path) -> None:
    report = tmp_path / "report.py"
    report.write_text(REPORT)
    done = cli("-v", "shell", "--device", "mock", str(report))
    assert (done.returncode, done.stdout) == (0, "replayed\n"), done.stderr
    assert "IOMMU_IOAS_COPY" in done.stderr
    report.write_text(REPORT.replace("EEXIST", "ENOENT"))
    done = cli("shell", "--device", "mock", str(report))
    assert (done.returncode, done.stdout) == (1, "")
    assert "report.py, line 7: ENOENT was expected, but: IOMMU_IOAS_MAP" in done.stderr
    report.write_text(OVERLAP)
    done = cli("shell", "--device", "mock", str(report))
    assert (done.returncode, done.stdout) == (0, "65536\n0\n"), done.stderr


def test_an_error_of_a_report_names_its_line(cli: Cli, tmp_path: Path) -> None:
    report = tmp_path / "report.py"
    report.write_text("ioas.unmap(0, 4096)\n")
    done = cli("shell", str(report))
    assert done.returncode == 1 and "report.py, line 1: IOMMU_IOAS_UNMAP" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_map_that_fails_is_told(cli: Cli) -> None:
    done = cli("map", "--device", "mock", "--size", "64K", "--iova", "0x1", "--json")
    found = document(done)
    assert done.returncode == 1 and found["succeeded"] is False
    assert [step["error"] for step in found["steps"]] == ["", "", "", "", "EINVAL"]


def test_hold_keeps_the_mapping_until_the_input_ends() -> None:
    command = [IOMMUFD, "map", "--device", "mock", "--size", "64K", "--hold"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as held:
        assert held.stderr is not None
        assert held.stderr.readline() == "mapped until the standard input ends\n"
        pinned = re.search(r"^VmPin:\s+(\d+) kB", Path(f"/proc/{held.pid}/status").read_text(), re.MULTILINE)
        assert pinned is not None and int(pinned[1]) == 64
        out, _ = held.communicate("")
    assert held.returncode == 0
    assert out.endswith("everything is undone\n")


def output_on_terminal(command: list[str], typed: str, until: str) -> str:
    """Run a command on a terminal, type when its output has *until*, and return the whole output."""
    with TerminalSession(command) as session:
        session.read_until(re.escape(until))
        output = session.write_until_end(typed)
        assert session.exit_status() == 0, output
    return output


def test_hold_on_a_terminal_ends_with_a_key() -> None:
    printed = output_on_terminal([IOMMUFD, "map", "--device", "mock", "--size", "64K", "--hold"], "q", "press a key")
    assert "everything is undone" in printed


def test_held_map_is_undone_by_a_signal() -> None:
    command = [IOMMUFD, "map", "--device", "mock", "--size", "64K", "--hold"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as held:
        assert held.stderr is not None
        held.stderr.readline()
        held.send_signal(signal.SIGTERM)
    assert held.returncode == 128 + signal.SIGTERM


def test_shell_has_the_objects_and_keeps_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    typed = "hwpt = device.alloc_hwpt(ioas)\nprint('evidence', hwpt.evidence)\n\x04"
    printed = output_on_terminal([IOMMUFD, "shell", "--device", "mock"], typed, ">>> ")
    assert "ioas = Ioas(" in printed
    assert "evidence VFIO_DMA_CC_IOMMU=0" in printed
    assert "hwpt.evidence" in (tmp_path / "iommufd-py" / "history").read_text()


def test_shell_runs_its_input(cli: Cli) -> None:
    done = cli("shell", input="print(ioas.iova_ranges().alignment)")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_verbose_shows_every_ioctl_on_stderr(cli: Cli) -> None:
    done = cli("-v", "map", "--device", "mock", "--size", "64K", "--json")
    assert json.loads(done.stdout)["succeeded"] is True
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"IOMMU_IOAS_ALLOC\(\) on \d+ = 0 -> out_ioas_id=\d+, [\d.]+ [num]?s", lines[0]), lines[0]
    assert any(line.startswith("IOMMU_TEST_CMD MOCK_DOMAIN") for line in lines)
    assert any(re.match(r"IOMMU_IOAS_MAP\(flags=0x6, .*length=65536.* = 0 -> iova=", line) for line in lines)
    assert "IOMMU_" not in cli("map", "--device", "mock", "--size", "64K", "--json").stderr


def test_trace_shows_the_map_of_its_command_and_leaves_nothing(cli: Cli) -> None:
    need_tracing()
    instances = Path("/sys/kernel/tracing/instances")
    run = ("map", "--device", "mock", "--size", "64K", "--iova", "0x1000000")
    done = cli("trace", "--event", "map", "--event", "unmap", "--json", "--", IOMMUFD, *run)
    assert done.returncode == 0, done.stderr
    schema = json.loads((resources.files("iommufd_py.cli") / "schemas" / "iommufd-trace-event-1.json").read_text())
    events = [json.loads(line) for line in done.stdout.splitlines()]
    for event in events:
        jsonschema.Draft202012Validator(schema).validate(event)
    assert "everything is undone" in done.stderr
    assert any(event["event"] == "map" and event["fields"]["iova"] == 0x1000000 for event in events)
    assert all(event["fields"] for event in events)
    assert any(event["event"] == "unmap" for event in events)
    assert list(instances.iterdir()) == []


def test_trace_ends_in_time_while_events_keep_coming() -> None:
    need_tracing()
    with (
        Iommufd() as iommufd,
        DmaBuffer(1 << 16) as buffer,
        subprocess.Popen([IOMMUFD, "trace", "--event", "map", "--seconds", "1"], stdout=subprocess.DEVNULL) as tracing,
    ):
        ioas = iommufd.alloc_ioas()
        MockDevice(iommufd).attach(ioas)
        deadline = time.monotonic() + patience(60)
        while tracing.poll() is None and time.monotonic() < deadline:
            ioas.map(buffer).close()
        assert tracing.poll() == 0
        tracing.kill()


def test_trace_lets_its_command_end(cli: Cli) -> None:
    need_tracing()
    done = cli("trace", "--event", "map", "--seconds", "0.5", "--", "sh", "-c", "sleep 2; echo it ended; exit 3")
    assert done.returncode == 3
    assert "it ended" in done.stdout
    assert "tracing ends after 0.5 s; sh continues" in done.stderr


def test_trace_of_no_command(cli: Cli) -> None:
    need_tracing()
    done = cli("trace", "--", "no-such-command")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "there is no command no-such-command: give its path, or a command on PATH"
    )
    assert "Traceback" not in done.stderr


def test_trace_for_a_time_and_exit_status_of_its_command(cli: Cli) -> None:
    need_tracing()
    assert cli("trace", "--seconds", "0.5").returncode == 0
    assert cli("trace", "--event", "map", "--", "sh", "-c", "exit 3").returncode == 3


def test_a_full_output_is_reported_once() -> None:
    """The next write fails too: of what the command prints while it ends, or of the rest of the buffer."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [IOMMUFD, "map", "--device", "mock", "--size", "4K"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=patience(60),
        )
    assert done.returncode == 1
    assert done.stderr == (
        "iommufd: error: the output cannot be written: No space left on device; free some space there, or write it "
        "elsewhere\n"
    )
