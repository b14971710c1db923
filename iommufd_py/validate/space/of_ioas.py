# SPDX-License-Identifier: MIT
"""The space of scenarios of IOASes: its dimensions, and the operations of each combination."""

from collections.abc import Iterator

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.uapi.enums import HwptAllocFlags
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.recorder import Buffer
from iommufd_py.validate.space.combinations import Space
from iommufd_py.validate.space.covering import Axes, Forbidden, Row
from iommufd_py.validate.space.memory import ACCESS, FILES, LENGTHS, MEMORY, whole_pages
from iommufd_py.validate.space.player import HeldDomain, HeldIoas, HeldMapping, Player

_N, _C = Coherency.NON_COHERENT, Coherency.COHERENT

_DOMAINS = {"n": (_N,), "c-n": (_C, _N), "n-c": (_N, _C), "n-n": (_N, _N)}
_FLAGS = {"plain": 0, "parent": HwptAllocFlags.NEST_PARENT, "dirty": HwptAllocFlags.DIRTY_TRACKING}

_AXES: Axes = {
    # kind of memory, and its map by address or as a file
    "memory": tuple(MEMORY),
    "length": tuple(LENGTHS),
    # the mapping begins or ends inside a page
    "place": ("whole", "begins-inside", "ends-inside", "both-inside"),
    "access": tuple(ACCESS),
    # the kernel charges pinned memory to nobody (with CAP_IPC_LOCK), to the user, or to the process
    "charged": ("nobody", "user", "process"),
    # the domains in the order in which they join: coherent, non-coherent
    "domains": tuple(_DOMAINS),
    # all domains join before the map, all after it, or the first one before it and the others after it
    "join": ("before", "after", "around"),
    # the first domain is a HWPT, or the kernel makes it for an attached device, or it is a HWPT with an attached PASID
    "by": ("hwpt", "attach", "pasid"),
    "flags": tuple(_FLAGS),
    # other areas of the same pages: a copy of all or of a part, or a coherent IOAS that had the pages before
    "sharing": ("alone", "copy", "part", "from-coherent"),
    # accesses that pin some of the pages, and end before or after the domains
    "pins": ("none", "one", "two", "outlive"),
    "leaves": ("large", "small"),
    # the last operation
    "end": ("unmap", "unmap-all", "in-order", "in-reverse", "close"),
}

_INSIDE = frozenset({"begins-inside", "ends-inside", "both-inside"})
_PINNED = frozenset({"one", "two", "outlive"})

_FORBIDDEN: tuple[Forbidden, ...] = (
    # The kernel creates the domain of an attach, without flags.
    {"by": frozenset({"attach"}), "flags": frozenset({"parent", "dirty"})},
    # These scenarios copy and pin whole pages only.
    {"place": _INSIDE, "sharing": frozenset({"copy", "part", "from-coherent"})},
    {"place": _INSIDE, "pins": _PINNED},
    # Without large leaves the kernel maps whole pages only.
    {"place": _INSIDE, "leaves": frozenset({"small"})},
    # An access that reads needs a readable mapping.
    {"access": frozenset({"wo"}), "pins": _PINNED},
    # An access can outlive the domains only if they leave first.
    {"pins": frozenset({"outlive"}), "end": frozenset({"unmap", "unmap-all", "close"})},
)


class Combination:
    """The operations of one row."""

    def __init__(self, context: ScenarioContext, row: Row) -> None:
        self.context = context
        self.row = row
        self.player = Player(context)

    def ioas(self) -> HeldIoas:
        """Make an IOAS with the row's size of leaves."""
        return self.player.alloc_ioas(huge_pages=self.row["leaves"] == "large")

    def buffer(self) -> tuple[Buffer, int, int]:
        """Make the memory, and return it with the offset and the length to map."""
        backing = MEMORY[self.row["memory"]]
        pages = LENGTHS[self.row["length"]]
        scattered = self.row["memory"] == "scattered"
        buffer = self.player.buffer(whole_pages(pages, backing), backing, scattered=scattered)
        half = PAGE_BYTES // 2
        offset = half if self.row["place"] in ("begins-inside", "both-inside") else 0
        end = half if self.row["place"] in ("ends-inside", "both-inside") else 0
        return buffer, offset, pages * PAGE_BYTES - offset - end

    def map(self, ioas: HeldIoas) -> HeldMapping:
        """Map the memory."""
        buffer, offset, length = self.buffer()
        through_file = self.row["memory"] in FILES
        flags = ACCESS[self.row["access"]]
        return self.player.map(ioas, buffer, offset=offset, length=length, flags=flags, through_file=through_file)

    def join(self, ioas: HeldIoas, number: int) -> HeldDomain:
        """Let the domain of this number join."""
        coherency = _DOMAINS[self.row["domains"]][number]
        flags = HwptAllocFlags(_FLAGS[self.row["flags"]])
        if number == 0 and self.row["by"] == "attach":
            return self.player.attach(ioas, coherency)
        if number == 0 and self.row["by"] == "pasid":
            return self.player.attach_pasid(ioas, coherency, flags)
        return self.player.join(ioas, coherency, flags)


def _play(context: ScenarioContext, row: Row) -> None:
    one = Combination(context, row)
    player = one.player
    with context.charged(row["charged"]):
        if row["place"] != "whole":
            context.device(_N)  # in a separate step
            with context.step("ask for the alignment", makes=_N):
                alignment = context.alignment(_N)
            context.need_parts_of_pages(alignment)
        target = one.ioas()
        domains = list(_join_before(one, target))
        if row["sharing"] == "from-coherent":
            elsewhere = player.alloc_ioas()
            player.join(elsewhere, _C)
            source = one.map(elsewhere)
            mapping = player.copy(target, source, 0, source.area.count, flags=ACCESS[row["access"]])
        else:
            mapping = one.map(target)
        domains += [one.join(target, number) for number in range(len(domains), len(_DOMAINS[row["domains"]]))]
        _share(one, mapping)
        pins = [(mapping, player.pin(mapping, first, 2)) for first in _pinned(row)]
        if row["pins"] != "outlive" and row["end"] != "close":
            for held, pin in pins:
                player.unpin(held, pin)
            pins = []
        _end(one, target, mapping, domains)
        for held, pin in pins:
            if pin in held.pins:
                player.unpin(held, pin)
        player.finish()


def _join_before(one: Combination, target: HeldIoas) -> Iterator[HeldDomain]:
    """Let those domains join that must be present before the map."""
    count = len(_DOMAINS[one.row["domains"]])
    for number in range({"before": count, "after": 0, "around": 1}[one.row["join"]]):
        yield one.join(target, number)


def _share(one: Combination, mapping: HeldMapping) -> None:
    if one.row["sharing"] not in ("copy", "part"):
        return
    other = one.ioas()
    one.player.join(other, _N)
    whole = one.row["sharing"] == "copy"
    first, count = (0, mapping.area.count) if whole else (1, 3)
    one.player.copy(other, mapping, first, count, flags=ACCESS[one.row["access"]])


def _pinned(row: Row) -> tuple[int, ...]:
    return {"none": (), "one": (1,), "two": (1, 2), "outlive": (2,)}[row["pins"]]


def _end(one: Combination, target: HeldIoas, mapping: HeldMapping, domains: list[HeldDomain]) -> None:
    player = one.player
    match one.row["end"]:
        case "unmap":
            player.unmap(mapping)
        case "unmap-all":
            player.unmap_all(target)
        case "close":
            player.close()
        case order:
            for domain in domains if order == "in-order" else reversed(domains):
                player.leave(target, domain)


IOAS_SPACE = Space(
    name="combination",
    axes=_AXES,
    forbidden=_FORBIDDEN,
    functions=("iopt_area_fill_domains", "iopt_area_fill_domain", "batch_unpin"),
    play=_play,
)
"""Scenarios that map memory into IOASes of one iommufd."""
