# SPDX-License-Identifier: MIT
"""Differences between two results that forbid a comparison, or that its reader must know."""

import hashlib
from collections.abc import Sequence
from dataclasses import fields

from iommufd_py.base.environment import Environment
from iommufd_py.base.units import counted, format_size
from iommufd_py.results.estimate import MIN_UNITS
from iommufd_py.results.model import BenchResult, Point, Row, Run
from iommufd_py.results.noise import disturbances
from iommufd_py.results.stats import median
from iommufd_py.results.validity import UNEQUAL_RUNS

# Settings of a machine. They may differ between two kernels on the same machine.
_SETTINGS = ("machine", "cpus", "microcode", "thp", "governor", "turbo", "numa_nodes", "compiler")
# The identity of a kernel: these facts are equal in all boots of a result. The command line can differ.
_CONSTANT = tuple(one.name for one in fields(Environment) if one.name not in ("command_line",))


def obstacles(before: BenchResult, after: BenchResult) -> list[str]:
    """Return the differences that forbid a comparison."""
    facts = {
        "platform": [one.environment.platform for one in (before, after)],
        "CPU": [one.environment.cpu for one in (before, after)],
        "IOMMU": [one.target.iommu for one in (before, after)],
    }
    return [f"{name} ({_shown(a)} and {_shown(b)})" for name, (a, b) in facts.items() if a != b]


def cautions(before: BenchResult, after: BenchResult, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    """Return all other differences and limits that a reader must know, one sentence each. *pairs* are the rows of equal
    points."""
    return [
        *differences(before, after),
        *(found for one in (before, after) for found in _between_boots(one)),
        *_of_boots(before, after),
        *_of_rows(before, after, pairs),
        *_of_measurements(before, after),
    ]


def measurements(result: BenchResult) -> frozenset[tuple[Point, str, bytes]]:
    """Return an identity for each run of each row. Results with a common one hold the same measurement, not another.

    The circumstances are a part of it: a coarse clock gives equal times in two runs.
    """
    common = result.tool_version, result.target, result.floor.clock
    boots = {one.boot_id: repr((one.started, one.environment, common)).encode() for one in result.every_boot}
    return frozenset(
        (row.point, run.boot_id, _digest(run, boots.get(run.boot_id, b""))) for row in result.rows for run in row.runs
    )


def _digest(run: Run, boot: bytes) -> bytes:
    return hashlib.blake2b(b"".join([boot, *(samples.ns.tobytes() for samples in run.operations.values())])).digest()


def differences(before: BenchResult, after: BenchResult) -> list[str]:
    """Return the differences of device, settings and tool that a reader must know, one sentence each."""
    return [*_of_targets(before, after), *_of_environments(before, after)]


def _of_targets(before: BenchResult, after: BenchResult) -> list[str]:
    a, b = before.target, after.target
    found = []
    if a.device != b.device:
        found.append(f"they differ in the device: {a.device} and {b.device}")
    if a.cap != b.cap:
        found.append(f"they differ in the IOMMU's capabilities: {_hex(a.cap)} and {_hex(b.cap)}")
    return found


def _hex(value: int | None) -> str:
    return "unknown" if value is None else f"CAP={value:#x}"


def _of_environments(before: BenchResult, after: BenchResult) -> list[str]:
    a, b = before.environment, after.environment
    found = [
        f"they differ in {name.replace('_', ' ')}: {_shown(getattr(a, name))} and {_shown(getattr(b, name))}"
        for name in _SETTINGS
        if getattr(a, name) != getattr(b, name)
    ]
    if bool(a.noncoherent_knob) != bool(b.noncoherent_knob):
        found.append("they differ in iommufd.test_noncoherent_hwpt")
    words = sorted(_words(a.command_line) ^ _words(b.command_line))
    if words:
        found.append(f"they differ in the kernel's command line: {' '.join(words)}")
    options = sorted((a.config or {}).items() ^ (b.config or {}).items())
    if options:
        found.append("they differ in " + ", ".join(dict.fromkeys(f"CONFIG_{name}" for name, _ in options)))
    if before.floor.clock != after.floor.clock:
        found.append(f"they differ in the clock of the samples: {before.floor.clock} and {after.floor.clock}")
    if before.tool_version != after.tool_version:
        found.append(f"they come from versions {before.tool_version} and {after.tool_version} of this tool")
    return found


def _shown(value: object) -> str:
    return "unknown" if value in (None, "") else str(value)


def _between_boots(result: BenchResult) -> list[str]:
    environments = [boot.environment for boot in result.every_boot]
    found = []
    for name in _CONSTANT:
        values = list(dict.fromkeys(_shown(getattr(one, name)) for one in environments))
        if len(values) > 1:
            found.append(f"the boots of {result.label} differ in {name.replace('_', ' ')}: {' and '.join(values)}")
    return found


def _of_boots(before: BenchResult, after: BenchResult) -> list[str]:
    boots = [{run.boot_id for row in side.rows for run in row.runs} for side in (before, after)]
    few = [side.label for side, found in zip((before, after), boots, strict=True) if len(found) < MIN_UNITS]
    if boots[0] == boots[1] or not few:
        return []
    return [
        f"fewer than three boots of {' and of '.join(dict.fromkeys(few))}: the intervals do not include the "
        "differences between boots; 'iommufd bench patch' boots each kernel several times"
    ]


def _of_rows(before: BenchResult, after: BenchResult, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    found = []
    for one, other in ((before, after), (after, before)):
        alone = len({row.point for row in one.rows} - {row.point for row in other.rows})
        if alone:
            found.append(f"{counted(alone, 'row')} of {one.label} without counterpart in {other.label}: left out")
    unequal = [one for one, other in pairs if _unequal(one, other)]
    if unequal:
        sizes = ", ".join(dict.fromkeys(format_size(row.point.size_bytes) for row in unequal))
        found.append(f"the buffers of {sizes} consist of unequal numbers of physical runs, which is unequal work")
    for result in (before, after):
        runs = [run for row in result.rows for run in row.runs]
        disturbed = [reasons for run in runs if run.noise and (reasons := disturbances(run.noise))]
        if disturbed:
            found.append(
                f"{result.label} was measured on a busy machine in {len(disturbed)} of {len(runs)} measurements, "
                f"for example: {disturbed[0][0]}"
            )
    return found


def _of_measurements(before: BenchResult, after: BenchResult) -> list[str]:
    sides = [measurements(one) for one in (before, after)]
    common = len(sides[0] & sides[1])
    if not common:
        return []
    return [
        f"{common} of {counted(min(map(len, sides)), 'measurement')} are in both results, so equal times say nothing: "
        "compare results of two runs"
    ]


def _words(command_line: str) -> set[str]:
    """Return the words of a kernel's command line that can affect times: not the names of a root and an image."""
    return {word for word in command_line.split() if not word.startswith(("init=", "root", "virtme"))}


def _unequal(before: Row, after: Row) -> bool:
    sides = [[run.measured_runs for run in row.runs if run.measured_runs] for row in (before, after)]
    if not all(sides):
        return False
    medians = [median(side) for side in sides]
    return max(medians) > UNEQUAL_RUNS * min(medians)
