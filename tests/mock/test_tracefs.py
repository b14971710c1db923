# SPDX-License-Identifier: MIT
"""A private trace instance on a real kernel: records, losses, leftovers, limits. It needs root, tracefs and probes."""

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from iommufd_py import SkipError, ToolError
from iommufd_py.host.tracefs import LostEventsError, NoSymbolError, Trace, find_tracefs
from tests.conftest import need, need_tracing
from tests.open_files import TOO_MANY, no_descriptor_left
from tests.waiting import patience

# A function of every kernel that only os.getppid() calls.
SYMBOL = "__x64_sys_getppid"


def leftovers() -> list[str]:
    root = find_tracefs()
    instances = [one.name for one in (root / "instances").iterdir() if one.name.startswith("iommufd-py-")]
    return instances + [line for line in (root / "dynamic_events").read_text().splitlines() if "iommufd_py_" in line]


@pytest.fixture
def trace() -> Iterator[Trace]:
    need_tracing()
    try:
        started = Trace()
    except SkipError as reason:
        need(False, str(reason))
        raise
    with started:
        yield started
    assert not leftovers()


def test_calls_returns_and_marks_in_order(trace: Trace) -> None:
    trace.probe(SYMBOL, name="entry")
    trace.probe(SYMBOL, {"parent": "$retval:s32"}, name="back", at_return=True)
    trace.mark("here")
    parent = os.getppid()
    entry, back = (record for record in trace.read() if record.name in ("entry", "back") and record.tid == os.getpid())
    assert (entry.name, back.name, back.fields()["parent"]) == ("entry", "back", parent)
    assert trace.read()[0].text == "here"
    trace.clear()
    assert trace.read() == []


def test_only_threads_that_are_followed_and_their_children(trace: Trace) -> None:
    endless = "import os\nwhile True:\n    os.getppid()"
    with subprocess.Popen([sys.executable, "-c", endless]) as busy:
        try:
            name = trace.probe(SYMBOL)
            trace.follow({os.getpid()})
            trace.clear()
            os.getppid()
            subprocess.run([sys.executable, "-c", "import os\nos.getppid()"], check=True)
            tids = {record.tid for record in trace.read() if record.name == name}
        finally:
            busy.kill()
    assert os.getpid() in tids and len(tids) > 1 and busy.pid not in tids


def test_a_muted_probe(trace: Trace) -> None:
    name = trace.probe(SYMBOL)
    trace.mute(name)
    os.getppid()
    assert trace.read() == []


def test_lost_events_are_an_error(trace: Trace) -> None:
    (trace.directory / "buffer_size_kb").write_text("4")
    trace.probe(SYMBOL)
    for _ in range(5000):
        os.getppid()
    with pytest.raises(LostEventsError, match="lost"):
        trace.read()
    trace.clear()
    assert trace.read() == []


def test_a_full_buffer_keeps_the_oldest_events_and_knows_their_end() -> None:
    need_tracing()
    cpus = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        # Each CPU has a buffer.
        os.sched_setaffinity(0, {min(cpus)})
        stack.callback(os.sched_setaffinity, 0, cpus)
        trace = stack.enter_context(Trace("mono_raw", 1 << 16, keep_oldest=True))
        name = trace.probe(SYMBOL)
        trace.follow({os.getpid()})
        trace.clear()
        assert trace.fill() < 0.5
        for _ in range(5000):
            os.getppid()
        assert trace.fill() > 1
        records, complete = trace.take()
        calls = [record.time for record in records if record.name == name]
        assert 100 < len(calls) < 5000
        assert complete == calls[-1]
        os.getppid()
        trace.resume()
        os.getppid()
        records, complete = trace.take()
        assert len([record for record in records if record.name == name]) == 1
        assert complete == math.inf
    assert not leftovers()


def test_only_events_that_fulfil_a_condition(trace: Trace) -> None:
    name = trace.probe(SYMBOL)
    for condition, expected in ((f"common_pid != {os.getpid()}", 0), (f"!(common_pid != {os.getpid()})", 1)):
        trace.select(name, condition)
        trace.clear()
        os.getppid()
        assert len([record for record in trace.read() if record.tid == os.getpid()]) == expected


def test_unknown_names(trace: Trace) -> None:
    with pytest.raises(NoSymbolError, match="no_such_function"):
        trace.probe("no_such_function")
    with pytest.raises(SkipError, match="iommu:nothing"):
        trace.enable("iommu", "nothing")


def test_a_killed_process_leaves_nothing_for_long(trace: Trace) -> None:
    script = (
        "import os; from iommufd_py.host.tracefs import Trace; "
        f"t = Trace(); t.probe({SYMBOL!r}); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=patience(60))
    assert killed.returncode == -signal.SIGKILL
    before = leftovers()
    with Trace():
        pass
    assert len(before) > len(leftovers()) == 1  # our own instance


def test_leftover_that_somebody_reads_stops_nobody(trace: Trace) -> None:
    """An instance cannot be removed while its trace_pipe is open. A later Trace removes it."""
    script = "import os; from iommufd_py.host.tracefs import Trace; t = Trace(); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=patience(60))
    assert killed.returncode == -signal.SIGKILL
    (left,) = [one for one in (find_tracefs() / "instances").iterdir() if one != trace.directory]
    with (left / "trace_pipe").open("rb"), Trace():
        assert left.exists()
    with Trace():
        assert not left.exists()


def test_a_closed_trace_that_somebody_reads_records_nothing() -> None:
    """close() cannot remove it, and must neither fail nor leave its events on."""
    need_tracing()
    trace = Trace()
    trace.enable("sched", "sched_switch")
    with (trace.directory / "trace_pipe").open("rb"):
        with pytest.warns(ResourceWarning, match=rf"{trace.directory} cannot be removed: another program uses it"):
            trace.close()
        assert trace.closed
        assert (trace.directory / "events/sched/sched_switch/enable").read_text() == "0\n"
    trace.directory.rmdir()
    assert not leftovers()


@pytest.mark.parametrize(
    "write",
    [
        lambda trace: trace.enable("sched", "sched_switch"),
        lambda trace: trace.follow({os.getpid()}),
        Trace.clear,
        Trace.take,
        Trace.resume,
        lambda _: Trace(),
    ],
    ids=["enable", "follow", "clear", "take", "resume", "Trace"],
)
def test_the_limit_of_open_files_is_named(trace: Trace, write: Callable[[Trace], object]) -> None:
    with no_descriptor_left(), pytest.raises(ToolError, match=TOO_MANY) as caught:
        write(trace)
    assert not isinstance(caught.value, SkipError), "the limit does not mean that the machine cannot trace"
