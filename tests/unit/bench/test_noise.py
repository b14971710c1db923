# SPDX-License-Identifier: MIT
"""Measuring the other activity on the machine during a benchmark."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from iommufd_py.bench import host_noise, noise
from iommufd_py.bench.host_noise import HostMeter, work_seconds
from iommufd_py.bench.noise import CpuTimes, NoiseMeter, blocks_to_keep, fast_blocks
from iommufd_py.results.model import Noise
from iommufd_py.results.noise import disturbances, loudness

STAT = "cpu  10 1 20 100 5 1 2 7 50 0\ncpu0 1 2 3\nintr 5 0\nctxt 99\nprocs_running 3\nprocs_blocked 0\n"
QUIET = Noise(steal=0.0, switches=0.0, waiting=0.0, clock_jump=0.0, slowdown=1.0)


def test_times_of_guests_are_part_of_those_of_users() -> None:
    assert CpuTimes.parse(STAT) == CpuTimes(total=146, steal=7, runnable=3)
    assert CpuTimes.parse("cpu  1 2 3 4\nprocs_running 1\n").steal is None


@pytest.mark.parametrize(
    ("noise", "phrase"),
    [
        (Noise(0.03, 0, 0, 0, 1), "the hypervisor took 3% of the CPU time"),
        (Noise(None, 60, 0, 0, 1), "60 involuntary context switches for each second"),
        (Noise(0.0, 0, 1.0, 0, 1), "1.0 other tasks were runnable"),
        (Noise(0.0, 0, 0, 0.5, 1), "the clock was stepped by 50.0% of a block"),
        (Noise(0.0, 0, 0, 0, 1.5), "the CPU was 50% slower in one block than in another"),
    ],
)
def test_each_disturbance_is_named_with_its_figure(noise: Noise, phrase: str) -> None:
    assert disturbances(noise) == [phrase]
    assert loudness(noise) > 1 > loudness(QUIET)
    assert disturbances(QUIET) == []


def test_another_task_is_seen() -> None:
    """Another computing process is runnable, or takes the CPU from this one."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as other:
        try:
            os.sched_setaffinity(other.pid, {min(os.sched_getaffinity(0))})
            meter = NoiseMeter()
            for _ in range(3):
                time.sleep(0.02)
                meter.end_block()
            assert meter.noise().waiting >= 1
        finally:
            other.kill()


def test_a_step_of_the_clock_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = NoiseMeter()
    real = time.time_ns
    monkeypatch.setattr(noise.time, "time_ns", lambda: real() + 3_600_000_000_000)
    meter.end_block()
    assert disturbances(meter.noise())
    assert meter.noise().clock_jump > 1


def test_a_slower_cpu_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100, 100, 160])
    monkeypatch.setattr(noise, "_work_ns", lambda: next(times))
    meter = NoiseMeter()
    meter.end_block()
    meter.end_block()
    assert meter.noise().slowdown == 1.6


@pytest.mark.parametrize(
    ("work_ns", "fast"),
    [
        ([[100, 114, 116, 100, 100]], [0, 1, 3, 4]),
        # A block counts if the CPU was fast for both guests.
        ([[100, 160, 100, 100, 100], [101, 101, 101, 160, 101]], [0, 2, 4]),
        # The fastest block of all guests decides, and not that of each guest.
        ([[100, 100, 100, 100], [160, 100, 100, 100]], [1, 2, 3]),
        # A CPU that is always slow has no slow block.
        ([[170, 171, 170]] * 2, [0, 1, 2]),
    ],
)
def test_blocks_in_which_the_cpu_is_fast(work_ns: list[list[int]], fast: list[int]) -> None:
    assert fast_blocks(work_ns) == blocks_to_keep(work_ns) == fast


def test_blocks_that_count_if_too_few_are_fast() -> None:
    equally_slow = [[100, 100, 160, 160, 170, 100, 160], [100, 100, 160, 160, 160, 160, 100]]
    assert fast_blocks(equally_slow) == [0, 1]
    assert blocks_to_keep(equally_slow) == [0, 1, 2, 3, 4]
    nothing_common = [[100, 160, 100, 160], [160, 100, 160, 100]]
    assert blocks_to_keep(nothing_common) == [0, 1, 2, 3]


def test_blocks_that_are_left_out_make_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is slow after the second block, and before the third."""
    times = iter([100, 100, 100, 100, 160, 160, 110, 110, 110])
    monkeypatch.setattr(noise, "_work_ns", lambda: next(times))
    meter = NoiseMeter()
    for _ in range(4):
        meter.begin_block()
        meter.end_block()
    assert meter.work_ns == [100, 160, 160, 110]
    assert meter.noise().slowdown == 1.6
    meter.keep([0, 3])
    assert meter.noise().slowdown == 1.1


HOST = """\
cpu  900 0 100 5000 50 0 0 0 0 0
cpu0 700 0 50 2000 25 0 0 0 0 0
cpu1 {user} 10 30 3000 25 6 4 0 0 0
intr 5 0
procs_running 1
"""


def test_work_of_the_guests_cpus_is_added() -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert work_seconds(HOST.format(user=200), [1]) == 250 * tick
    assert work_seconds(HOST.format(user=200), [0, 1]) == 1000 * tick


def test_processes_of_others_on_the_guests_cpu_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat, clock = tmp_path / "stat", iter([0.0, 10.0])
    monkeypatch.setattr(host_noise, "_STAT", stat)
    monkeypatch.setattr(host_noise.time, "monotonic", lambda: next(clock))
    stat.write_text(HOST.format(user=0))
    meter = HostMeter([1])
    stat.write_text(HOST.format(user=5 * os.sysconf("SC_CLK_TCK")))
    assert meter.disturbances() == ["other processes took 50% of the guest's CPU time"]


@pytest.mark.slow
@pytest.mark.parametrize("ended", [True, False])
def test_the_guest_itself_is_no_disturbance(ended: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(host_noise, "_STAT", stat)
    stat.write_text(HOST.format(user=0))
    meter, start = HostMeter([1]), time.monotonic()
    child = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    while _cpu_seconds(child.pid) < 0.3:
        time.sleep(0.02)
    used = _cpu_seconds(child.pid)
    child.kill()
    if ended:
        child.wait()
    # Other processes do not use this CPU, so all of its work is the child's.
    elapsed = time.monotonic() - start
    monkeypatch.setattr(host_noise.time, "monotonic", lambda: start + min(elapsed, 2 * used))
    stat.write_text(HOST.format(user=round(used * os.sysconf("SC_CLK_TCK"))))
    assert bool(meter.disturbances()) is not ended
    child.wait()


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time that the process *pid* has used."""
    columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")
