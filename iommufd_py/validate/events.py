# SPDX-License-Identifier: MIT
"""The events of a scenario, as values. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flush:
    """The CPU caches are flushed for physical memory.

    Attributes:
        own: one of our own threads flushes, and not a kernel thread, which may work for another process.
    """

    phys: int
    length: int
    own: bool = True


@dataclass(frozen=True, slots=True)
class Map:
    """Physical memory is about to be mapped into a domain."""

    domain: int
    iova: int
    phys: int
    length: int


@dataclass(frozen=True, slots=True)
class MapFailed:
    """A map failed, and the domain holds no page of it."""

    domain: int
    iova: int
    length: int


@dataclass(frozen=True, slots=True)
class Unmap:
    """A range of a domain is about to be unmapped.

    Attributes:
        pending: the IOTLB is invalidated later, which :class:`Synced` reports.
    """

    domain: int
    iova: int
    length: int
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """The IOTLB of a domain was invalidated for all earlier unmaps."""

    domain: int


@dataclass(frozen=True, slots=True)
class Unpin:
    """Page frames are about to be unpinned."""

    frame: int
    count: int


@dataclass(frozen=True, slots=True)
class NewDomain:
    """A domain was made, perhaps at the address of an earlier one."""

    domain: int


@dataclass(frozen=True, slots=True)
class StepBegin:
    """A step of the scenario begins."""

    index: int


@dataclass(frozen=True, slots=True)
class StepEnd:
    """A step of the scenario is over."""

    index: int


Event = Flush | Map | MapFailed | Unmap | Synced | Unpin | NewDomain | StepBegin | StepEnd

BEGIN, END = "step-begin", "step-end"
"""Words that begin the marks of the steps in the trace."""


def begin_mark(index: int) -> str:
    """Return the text that marks the beginning of a step in the trace."""
    return f"{BEGIN} {index}"


def end_mark(index: int) -> str:
    """Return the text that marks the end of a step in the trace."""
    return f"{END} {index}"
