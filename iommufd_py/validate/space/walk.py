# SPDX-License-Identifier: MIT
"""Random walks: scenarios of random operations. A walk that shows a violation is shortened."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from iommufd_py.base.units import PAGE_BYTES, counted
from iommufd_py.objects.buffer import Backing
from iommufd_py.uapi.enums import MapFlags
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.space.player import HeldIoas, HeldMapping, Player

STEPS_OF_A_WALK = 40
"""Number of steps in one scenario. Longer walks are divided, so that the records fit into the trace buffer."""

_KINDS = ("ioas", "map", "map", "map", "copy", "copy", "join", "join", "leave", "pin", "unpin", "unmap", "unmap-all")
_BACKINGS = (Backing.ANON_4K, Backing.MEMFD)
_MOST_IOASES, _MOST_DOMAINS, _MOST_MAPPINGS, _MOST_PAGES = 3, 3, 8, 12

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WalkStep:
    """One operation: its kind, and numbers that select its objects among the existing ones.

    A step remains valid if steps before it are left out. The shortening relies on this.
    """

    kind: str
    numbers: tuple[int, int, int]


def draw(seed: int, length: int) -> list[WalkStep]:
    """Draw the steps of a walk. Pure; equal seeds give equal steps."""
    source = random.Random(seed)
    return [
        WalkStep(
            source.choice(_KINDS), (source.randrange(1 << 16), source.randrange(1 << 16), source.randrange(1 << 16))
        )
        for _ in range(length)
    ]


def walk_scenario(name: str, steps: Sequence[WalkStep]) -> Scenario:
    """Return a scenario that goes through the steps."""
    return Scenario(
        name=name,
        rules=(1, 2, 3),
        functions=("iopt_area_fill_domains", "iopt_area_fill_domain", "batch_unpin"),
        what=f"A random walk of {counted(len(steps), 'step')}.",
        why="It finds mistakes that need a sequence of operations that no other scenario has.",
        play=partial(_play, tuple(steps)),
        is_walk=True,
    )


def shorten(steps: Sequence[WalkStep], still_fails: Callable[[Sequence[WalkStep]], bool]) -> list[WalkStep]:
    """Remove steps while the walk still fails, larger pieces first. Pure except for *still_fails*."""
    kept = list(steps)
    size = max(len(kept) // 2, 1)
    while True:
        at, removed = 0, False
        while at < len(kept):
            shorter = kept[:at] + kept[at + size :]
            if shorter and still_fails(shorter):
                kept, removed = shorter, True
            else:
                at += size
        if size == 1 and not removed:
            return kept
        size = max(size // 2, 1)


def _play(steps: Sequence[WalkStep], context: ScenarioContext) -> None:
    walker = _Walker(context)
    for step in steps:
        walker.do(step)
    walker.player.finish()


class _Walker:
    """Execute steps. A step that is impossible at the moment does nothing."""

    def __init__(self, context: ScenarioContext) -> None:
        self.player = Player(context)
        self.player.alloc_ioas()
        self._kinds = context.coherencies()
        self._maps_files = context.iommufd.probe()["IOMMU_IOAS_MAP_FILE"]

    def do(self, step: WalkStep) -> None:
        """Do one step."""
        first, second, third = step.numbers
        ioas = _pick(self.player.ioases, first)
        match step.kind:
            case "ioas":
                if len(self.player.ioases) < _MOST_IOASES:
                    self.player.alloc_ioas()
            case "map":
                self._map(ioas, second, third)
            case "copy":
                self._copy(ioas, second, third)
            case "join":
                if len(ioas.domains) < _MOST_DOMAINS:
                    self.player.join(ioas, _pick(self._kinds, second))
            case "leave":
                if ioas.domains:
                    self.player.leave(ioas, _pick(ioas.domains, second))
            case "unmap-all":
                if ioas.mappings:
                    self.player.unmap_all(ioas)
            case kind:
                mappings = [held for one in self.player.ioases for held in one.mappings]
                if mappings:
                    self._on_mapping(kind, _pick(mappings, second), third)

    def _map(self, ioas: HeldIoas, second: int, third: int) -> None:
        if sum(len(one.mappings) for one in self.player.ioases) >= _MOST_MAPPINGS:
            return
        backing = _pick(_BACKINGS, second)
        buffer = self.player.buffer(1 + third % _MOST_PAGES, backing, scattered=bool(third & 0x100))
        flags = _pick((MapFlags.READ_WRITE, MapFlags.READABLE), third >> 9)
        through_file = self._maps_files and backing is Backing.MEMFD and bool(third & 0x1000)
        self.player.map(ioas, buffer, flags=flags, through_file=through_file)

    def _copy(self, ioas: HeldIoas, second: int, third: int) -> None:
        mappings = [held for one in self.player.ioases for held in one.mappings]
        if not mappings or len(mappings) >= _MOST_MAPPINGS:
            return
        source = _pick(mappings, second)
        first, count = _part(source, third)
        self.player.copy(ioas, source, first, count, flags=source.mapping.flags)

    def _on_mapping(self, kind: str, held: HeldMapping, third: int) -> None:
        if kind == "unmap":
            self.player.unmap(held)
        elif kind == "unpin" and held.pins:
            self.player.unpin(held, _pick(held.pins, third))
        elif kind == "pin" and self.player.context.on_mock:
            self.player.pin(held, *_part(held, third))


def _part(held: HeldMapping, number: int) -> tuple[int, int]:
    """Choose some pages of a mapping: (first, count)."""
    total = held.mapping.length // PAGE_BYTES
    first = number % total
    return first, 1 + (number >> 4) % (total - first)


def _pick(values: Sequence[_T], number: int) -> _T:
    return values[number % len(values)]
