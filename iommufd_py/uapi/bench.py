# SPDX-License-Identifier: MIT
"""The timed loops of the extension: the GIL is released, and no Python runs between two clock reads."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from iommufd_py.base.errors import ToolError, check_result
from iommufd_py.uapi.cache import LineOp, has
from iommufd_py.uapi.call import request
from iommufd_py.uapi.ffi import ffi, lib

SWITCHED: int = lib.IOMMUFD_BENCH_SWITCHED
FAULTED: int = lib.IOMMUFD_BENCH_FAULTED


@dataclass(frozen=True, slots=True)
class Move:
    """A 64-bit field of a step's structure that grows: from call to call within a sample, and from round to round."""

    field: str
    per_call: int = 0
    per_round: int = 0


@dataclass(frozen=True, slots=True)
class TimedStep:
    """One operation of a round, timed by itself.

    Attributes:
        name: the operation; empty for a step that only prepares the next one.
        fd: file descriptor of the ioctl.
        ioctl: its name.
        structure: name of the argument's structure, without ``struct``. ``int`` means a pointer to an int, ``value``
            the number itself; both have one entry in *fields*.
        fields: the in-fields of the first call of the first round; the size is filled in.
        moves: fields that change from call to call or from round to round, two at most.
        calls: number of ioctls in one sample.
        id_from: (step index, source field, destination field) of an object id to copy.
    """

    name: str
    fd: int
    ioctl: str
    structure: str
    fields: Mapping[str, int] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()
    calls: int = 1
    id_from: tuple[int, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one step in ns, and for each sample a byte with the bits :data:`SWITCHED` and :data:`FAULTED`."""

    ns: "array[int]"
    disturbances: bytes


class Gate:
    """Holds back *threads* threads until the last of them arrives, for one :meth:`Loop.run` of each.

    Args:
        threads: number of threads.
        patience: seconds after which a thread gives up waiting for the others, because one of them has died.
    """

    def __init__(self, threads: int, patience: float = 60.0) -> None:
        self.cdata = ffi.new("uint32_t *", threads)
        self.patience = patience


class Loop:
    """A round of timed steps that C repeats.

    Args:
        steps: the round. Its last step must restore the state before its first.
        user_va: address of the buffer whose cache lines are prepared before each step.
        length: bytes of the buffer.
        cache: the state of the lines before each step: ``untouched``, ``dirty``, ``clean`` or ``evicted``.
        places: number of rounds after which the moving fields start again.
    """

    def __init__(
        self,
        steps: Sequence[TimedStep],
        *,
        user_va: int = 0,
        length: int = 0,
        cache: str = "untouched",
        places: int = 1,
    ) -> None:
        self.steps = tuple(steps)
        self.names = tuple(step.name for step in self.steps)
        self._first = 0
        self._kept: list[Any] = []  # The C structures below point to this memory.
        self._issued: list[Any] = []
        self._steps = ffi.new("struct iommufd_bench_step[]", len(self.steps))
        for number, step in enumerate(self.steps):
            self._prepare(self._steps[number], step)
        self._loop = ffi.new(
            "struct iommufd_bench_loop *",
            {
                "steps": self._steps,
                "buffer": ffi.cast("void *", user_va),
                "buffer_bytes": length,
                "cache": _cache_state(cache),
                "places": places,
                "step_count": len(self.steps),
            },
        )

    def _prepare(self, target: Any, step: TimedStep) -> None:
        target.request, target.fd, target.calls = request(step.ioctl), step.fd, step.calls
        if step.structure == "value":
            (value,) = step.fields.values()
            target.issued = ffi.cast("void *", value)
            self._issued.append(None)
            return
        ctype, initial = f"struct {step.structure}", cast("Any", dict(step.fields))
        if step.structure == "int":
            ctype, (initial,) = "int32_t", step.fields.values()
        argument, issued = (ffi.new(f"{ctype} *", initial) for _ in range(2))
        if step.structure != "int":
            setattr(argument, "argsz" if step.structure.startswith("vfio_") else "size", ffi.sizeof(ctype))
        self._kept += [argument, issued]
        self._issued.append(issued)
        target.argument, target.issued, target.argument_bytes = argument, issued, ffi.sizeof(ctype)
        for number, move in enumerate(step.moves):
            target.moves[number] = {
                "offset": ffi.offsetof(ctype, move.field),
                "per_call": move.per_call,
                "per_round": move.per_round,
            }
        if step.id_from is not None:
            earlier, brought, wanted = step.id_from
            target.id_from = ffi.cast("uint32_t *", ffi.addressof(self._issued[earlier], brought))
            target.id_offset = ffi.offsetof(ctype, wanted)

    def run(self, count: int, gate: Gate | None = None) -> list[Batch]:
        """Run *count* rounds, and return the samples of each step.

        Raises:
            IommufdError: an ioctl failed; its arguments are those of the first round.
            ToolError: another thread did not arrive at the gate.
        """
        # Write to the sample arrays, so that their pages are present before the clock starts.
        samples = [(array("Q", bytes(8 * count)), bytearray(count)) for _ in self.steps]
        views = [
            (
                ffi.from_buffer("uint64_t[]", ns, require_writable=True),
                ffi.from_buffer("uint8_t[]", disturbances, require_writable=True),
            )
            for ns, disturbances in samples
        ]
        for number, (ns_view, disturbances_view) in enumerate(views):
            self._steps[number].ns, self._steps[number].disturbances = ns_view, disturbances_view
        self._loop.gate = gate.cdata if gate else ffi.NULL
        self._loop.patience_ns = int(gate.patience * 1e9) if gate else 0
        result = lib.iommufd_bench_run(self._loop, count)
        if result:
            if self._loop.failed_step == self._loop.step_count:
                raise ToolError(
                    "another thread of the measurement died before it started; its own error has the reason"
                )
            step = self.steps[self._first + self._loop.failed_step]
            check_result(result, step.ioctl, {**step.fields, "round": int(self._loop.rounds)})
        return [Batch(ns, bytes(disturbances)) for ns, disturbances in samples]

    def issued(self, number: int) -> dict[str, int]:
        """Return the fields of a step's structure after its last call."""
        return {name: int(getattr(self._issued[number], name)) for name in self.steps[number].fields}

    def run_step(self, number: int) -> None:
        """Run one step of the next round alone, untimed. The caller then runs the other steps of that round too."""
        rounds = self._loop.rounds
        self._first, self._loop.steps, self._loop.step_count = number, self._steps + number, 1
        try:
            self.run(1)
        finally:
            self._first, self._loop.steps, self._loop.step_count = 0, self._steps, len(self.steps)
            self._loop.rounds = rounds


def empty_ioctl(fd: int) -> TimedStep:
    """Return a step that only reads an option: no ioctl of an iommufd is faster."""
    fields = {"option_id": lib.IOMMU_OPTION_RLIMIT_MODE, "op": lib.IOMMU_OPTION_OP_GET}
    return TimedStep("empty", fd, "IOMMU_OPTION", "iommu_option", fields)


# The clock of all samples, in words.
CLOCK = "time stamp counter" if lib.iommufd_clock_choose() else "CLOCK_MONOTONIC_RAW"


def clock_ns() -> int:
    """Return the time of the clock of all samples, in nanoseconds since the machine started."""
    return lib.iommufd_clock_ns()


def clock(count: int) -> "array[int]":
    """Return *count* times between two clock reads with nothing in between; every sample contains this time."""
    samples = array("Q", bytes(8 * count))
    lib.iommufd_bench_clock(ffi.from_buffer("uint64_t[]", samples, require_writable=True), count)
    return samples


def can_flush() -> bool:
    """Return whether user space can flush CPU cache lines here by CLFLUSHOPT, as the loops do."""
    return has(LineOp.CLFLUSHOPT)


def flush(user_va: int, length: int, cache: str, count: int) -> "array[int]":
    """Return *count* times in ns of flushing a buffer's cache lines from user space by CLFLUSHOPT.

    Before each flush, outside the timed part, the lines get the state *cache*, as in :class:`Loop`.
    """
    samples = array("Q", bytes(8 * count))
    view = ffi.from_buffer("uint64_t[]", samples, require_writable=True)
    lib.iommufd_bench_flush(ffi.cast("void *", user_va), length, _cache_state(cache), view, count)
    return samples


def _cache_state(name: str) -> int:
    return int(getattr(lib, f"IOMMUFD_BENCH_{name.upper()}"))
