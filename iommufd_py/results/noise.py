# SPDX-License-Identifier: MIT
"""Decide whether the machine was too busy while a row was measured."""

from iommufd_py.results.model import Noise

MOST_STEAL = 0.02
"""Share of the CPU time that a hypervisor may take. With more, the machine is busy, and a measurement is repeated."""

MOST_SLOWDOWN = 1.15
"""Time of a fixed piece of work after a block, as a multiple of that after the fastest. With more, the CPU was slow."""

# The other bounds. Samples beyond a bound cause another attempt.
_SWITCHES_PER_S = 50
_WAITING = 0.5
_CLOCK_JUMP = 0.001


def disturbances(noise: Noise) -> list[str]:
    """Return each disturbance as a phrase with its figure; empty if the machine was quiet enough."""
    found = []
    if noise.steal is not None and noise.steal > MOST_STEAL:
        found.append(f"the hypervisor took {noise.steal:.0%} of the CPU time")
    if noise.switches > _SWITCHES_PER_S:
        found.append(f"{noise.switches:.0f} involuntary context switches for each second")
    if noise.waiting > _WAITING:
        found.append(f"{noise.waiting:.1f} other tasks were runnable")
    if noise.clock_jump > _CLOCK_JUMP:
        found.append(f"the clock was stepped by {noise.clock_jump:.1%} of a block")
    if noise.slowdown > MOST_SLOWDOWN:
        found.append(f"the CPU was {noise.slowdown - 1:.0%} slower in one block than in another")
    return found


def loudness(noise: Noise) -> float:
    """Return how far the noise exceeds its bounds, to choose the quietest of several attempts."""
    return max(
        (noise.steal or 0.0) / MOST_STEAL,
        noise.switches / _SWITCHES_PER_S,
        noise.waiting / _WAITING,
        noise.clock_jump / _CLOCK_JUMP,
        (noise.slowdown - 1) / (MOST_SLOWDOWN - 1),
    )
