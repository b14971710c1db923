# SPDX-License-Identifier: MIT
"""Summaries of the maps, of the unmaps, and of the other ioctls of a process. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iommufd_py.explain.pieces import Measured
from iommufd_py.host.map_parts import PartTime, add_parts


@dataclass(frozen=True, slots=True)
class IoctlSummary:
    """A summary of the ioctls of one kind.

    Attributes:
        name: ``map``, ``unmap`` or ``other``.
        calls: the ioctls.
        failed: number of failed ioctls by errno.
        length: number of bytes of the successful ioctls that have a length.
        seconds: duration of all ioctls together.
        seen_s: seconds in which the parts were recorded.
        parts: time by part within these seconds.
        runs: number of physically contiguous runs by their bytes within those seconds.
        probe_s: the part of these seconds that the probes took; None if unknown.
        pair_s: seconds that the probes of one call take; None if unknown.
    """

    name: str
    calls: tuple[Measured, ...]
    failed: Mapping[int, int]
    length: int
    seconds: float
    seen_s: float
    parts: Mapping[str, PartTime]
    runs: Mapping[int, int]
    probe_s: float | None
    pair_s: float | None

    def share(self, *parts: str) -> float:
        """Return the share of parts in the recorded seconds, 0 to 1, with the time of the probes in them."""
        seconds = sum(self.parts[part].seconds for part in parts if part in self.parts)
        return seconds / self.seen_s if self.seen_s else 0.0

    def least_share(self, *parts: str) -> float:
        """Return the share after all the time of the probes on these parts is deducted."""
        probes_s = self.calls_of(*parts) * (self.pair_s or 0.0)
        return max(0.0, self.share(*parts) - (probes_s / self.seen_s if self.seen_s else 0.0))

    def calls_of(self, *parts: str) -> int:
        """Return the number of calls of parts."""
        return sum(self.parts[part].calls for part in parts if part in self.parts)


def summaries(ioctls: Sequence[Measured], pair_s: float | None) -> tuple[IoctlSummary, IoctlSummary, IoctlSummary]:
    """Return a summary of the maps, one of the unmaps, and one of all other ioctls."""
    maps = [one for one in ioctls if one.call.request.is_map]
    unmaps = [one for one in ioctls if one.call.request.is_unmap]
    others = [one for one in ioctls if not (one.call.request.is_map or one.call.request.is_unmap)]
    return _summary("map", maps, pair_s), _summary("unmap", unmaps, pair_s), _summary("other", others, pair_s)


def _summary(name: str, ioctls: Sequence[Measured], pair_s: float | None) -> IoctlSummary:
    runs: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    for one in ioctls:
        runs.update(one.runs)
        if one.call.error:
            failed[one.call.error] += 1
    good = [one.call.request.length or 0 for one in ioctls if not one.call.error]
    return IoctlSummary(
        name,
        tuple(ioctls),
        dict(failed),
        sum(good),
        sum(one.seconds for one in ioctls),
        sum(one.seen_s for one in ioctls),
        add_parts(one.parts for one in ioctls),
        dict(sorted(runs.items())),
        None if pair_s is None else pair_s * sum(one.probed for one in ioctls),
        pair_s,
    )
