# SPDX-License-Identifier: MIT
"""Measure in turns with other guests of the host: while one guest measures, the others sleep.

The speed of a CPU that others share changes within a second, by up to a factor of 1.8 on a hypervisor. Kernels that are
booted one after the other meet different speeds. Guests that take turns of a tenth of a second meet the same ones.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iommufd_py.base.errors import ArgumentValueError, ToolError

# A change of the guest costs some hundred microseconds, until its memory is in the caches again.
_SLOT_SECONDS = 0.1
# A slot is longer than the longest single measurement by this factor.
_ROOM = 1.25
_POLL_SECONDS = 0.02
# Time from the last arrival to the first slot: all guests see the arrival in this time.
_BEGIN_SECONDS = 0.2
_PATIENCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Slots:
    """Equal parts of time, which belong to the guests in turn.

    All guests of a host read the same clock: CLOCK_REALTIME.

    Attributes:
        start: when the first slot begins, in seconds since 1970.
        seconds: length of a slot.
        number: place of this guest, from 0.
        count: number of guests.
    """

    start: float
    seconds: float
    number: int
    count: int

    def begin_of_next(self, now: float) -> float:
        """Return when the next slot of this guest begins after *now*, or *now* in the first tenth of such a slot."""
        cycle = self.seconds * self.count
        first = self.start + self.number * self.seconds
        missed = math.floor((now - first) / cycle)
        if missed >= 0 and now - (first + missed * cycle) < self.seconds / 10:
            return now
        return first + max(missed + 1, 0) * cycle

    def wait(self) -> None:
        """Sleep until the next slot of this guest begins."""
        now = time.time()
        time.sleep(max(self.begin_of_next(now) - now, 0))


@dataclass(frozen=True, slots=True)
class Turn:
    """The place of a guest among the guests that measure in turns.

    Attributes:
        directory: a new directory that all guests see and write. Its name identifies the round of boots.
        number: place of this guest, from 0.
        count: number of guests.
    """

    directory: Path
    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ArgumentValueError(f"guest {self.number} is not one of {self.count} guests: they are counted from 0")

    def meet(self, place: str, seconds: float) -> Slots:
        """Wait until all guests come to *place*, and return the slots from then on.

        Args:
            place: a name that no earlier call used.
            seconds: duration of the longest measurement of this guest that cannot be divided.

        Raises:
            ToolError: another guest did not come.
        """
        arrivals: list[tuple[float, float]] = self.exchange(place, (time.time(), seconds))
        return Slots(
            start=max(when for when, _ in arrivals) + _BEGIN_SECONDS,
            seconds=max(_SLOT_SECONDS, _ROOM * max(need for _, need in arrivals)),
            number=self.number,
            count=self.count,
        )

    def exchange(self, place: str, value: object) -> list[Any]:
        """Wait until all guests come to *place*, and return the value of each guest, in their order.

        Args:
            place: a name that no earlier call used.
            value: something that JSON can express.

        Raises:
            ToolError: another guest did not come.
        """
        file = self.directory / f"{place}-{self.number}"
        part = file.with_suffix(".part")
        part.write_text(json.dumps(value))
        part.rename(file)
        files = [self.directory / f"{place}-{number}" for number in range(self.count)]
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while missing := [number for number, one in enumerate(files) if not one.exists()]:
            if time.monotonic() > deadline:
                raise ToolError(
                    f"guest {missing[0] + 1} of {self.count} did not begin its row within {_PATIENCE_SECONDS} s: see "
                    "its messages; one cause is a lack of memory on the host"
                )
            time.sleep(_POLL_SECONDS)
        return [json.loads(one.read_text()) for one in files]
