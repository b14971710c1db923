# SPDX-License-Identifier: MIT
"""Measuring the activity of the machine beside a benchmark."""

import os
import signal
import time

import pytest

from iommufd_py.bench import noise
from iommufd_py.bench.host_noise import HostMeter
from iommufd_py.bench.noise import CpuTimes, NoiseMeter
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
    child = os.fork()
    if child == 0:
        while True:
            pass
    try:
        os.sched_setaffinity(child, {min(os.sched_getaffinity(0))})
        meter = NoiseMeter()
        for _ in range(3):
            time.sleep(0.02)
            meter.end_block()
        assert meter.noise().waiting >= 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


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


def test_host_tells_of_waiting_tasks() -> None:
    meter = HostMeter()
    assert all(isinstance(phrase, str) for phrase in meter.disturbances())
