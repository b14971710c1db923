# SPDX-License-Identifier: MIT
"""A trace instance of our own with dynamic probes, removed afterwards.

Source: Documentation/trace/{ftrace,kprobetrace,fprobetrace}.rst.
"""

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.objects.resource import Resource

_LOCKDOWN = Path("/sys/kernel/security/lockdown")
# Both names carry the process that made them, by number, start and PID namespace, and end with a count.
_INSTANCE = re.compile(r"iommufd-py-(\d+_\d+_\d+)-\d+")
_GROUP = re.compile(r"[a-z]\w*:(iommufd_py_(\d+_\d+_\d+)_\d+)/(\w+) ")
_LINE = re.compile(
    r"^\s*.*-(?P<tid>\d+)\s+\[(?P<cpu>\d+)\]\s+(?:\S{4,6}\s+)?(?P<time>[\d.]+): (?P<name>\w+): ?(?P<text>.*)$"
)
_FIELD = re.compile(r"(\w+)=(\S+)")

_BUFFER_BYTES = 8 << 20
_LOSSES = ("overrun", "commit overrun", "dropped events")

_sequence = itertools.count()


class NoSymbolError(ToolError):
    """The running kernel has no function of this name that can be probed."""


class LostEventsError(ToolError):
    """The trace buffer was too small, so events are missing."""


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One event.

    Attributes:
        time: as the trace's clock gives it: a count for ``counter``, seconds for the clocks of time.
        tid: thread in whose context it happened.
        name: of the event or the probe, without its group.
        text: what the event printed.
    """

    time: float
    tid: int
    cpu: int
    name: str
    text: str

    def fields(self) -> dict[str, int | str]:
        """Return the ``name=value`` pairs of the text, numbers as such."""
        return {name: _number(value) for name, value in _FIELD.findall(self.text)}


def _number(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text


def parse_trace(lines: Sequence[str]) -> Iterator[TraceRecord]:
    """Read the text form of a trace buffer, comments left out.

    Raises:
        ToolError: a line is not understood.
    """
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ToolError(
                f"the trace has a line that is not understood: {line!r}; report it with the kernel's version"
            )
        yield TraceRecord(
            float(match["time"]), int(match["tid"]), int(match["cpu"]), match["name"], match["text"].strip()
        )


def find_tracefs() -> Path:
    """Return where tracefs is mounted.

    Raises:
        SkipError: nowhere, or it may not be used.
    """
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    found = next((Path(words[1]) for words in mounts if words[2] == "tracefs"), None)
    if found is None:
        if Path("/sys/kernel/tracing").exists():
            raise SkipError("tracefs is not mounted: mount -t tracefs nodev /sys/kernel/tracing")
        raise SkipError("this kernel has no tracefs: it is built without CONFIG_FTRACE")
    if not os.access(found / "trace", os.R_OK | os.W_OK):
        raise SkipError(f"{found} may not be used: run as root, or with sudo")
    try:
        # access() says yes where the kernel is locked down; only open() asks the lockdown.
        os.close(os.open(found / "trace", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as failure:
        raise SkipError(_refusal(f"{found} may not be used", failure)) from None
    return found


def lockdown_level(text: str | None = None) -> str:
    """Return how far the kernel is locked down: ``none``, ``integrity``, ``confidentiality``; empty if unknown.

    Args:
        text: of /sys/kernel/security/lockdown; this machine's by default.
    """
    chosen = re.search(r"\[(\w+)\]", attribute_text(_LOCKDOWN) if text is None else text)
    return chosen[1] if chosen else ""


def _refusal(what: str, failure: OSError) -> str:
    level = lockdown_level()
    if failure.errno == errno.EPERM and level not in ("", "none"):
        return (
            f"{what}: this kernel is locked down ({level}), as under Secure Boot: there is no tracing; switch Secure "
            "Boot off in the firmware setup, or boot without lockdown="
        )
    return f"{what}: {failure.strerror}"


class Trace(Resource):
    """A trace instance of our own: other users of tracing neither see it nor are disturbed.

    Closing it removes its probes and the instance. The next trace removes the leftovers of a process that was killed.

    Args:
        clock: as in ``trace_clock``. ``counter`` numbers events, in one order for all CPUs; ``mono_raw`` is
            CLOCK_MONOTONIC_RAW.
        buffer_bytes: size of the buffer of each CPU.

    Raises:
        SkipError: no tracefs, or it may not be used.
    """

    def __init__(self, clock: str = "counter", buffer_bytes: int = _BUFFER_BYTES) -> None:
        super().__init__()
        self._root = find_tracefs()
        _remove_leftovers(self._root)
        number = next(_sequence)
        owner = _owner()
        self._group = f"iommufd_py_{owner}_{number}"
        self.directory = self._root / "instances" / f"iommufd-py-{owner}-{number}"
        self._marker = -1
        self._probes: set[str] = set()
        self._missed_before = 0
        with self._opening():
            try:
                self.directory.mkdir()
            except OSError as failure:
                raise SkipError(f"no trace instance can be made in {self._root}: {failure.strerror}") from failure
        try:
            (self.directory / "trace_clock").write_text(clock)
            (self.directory / "buffer_size_kb").write_text(str(buffer_bytes >> 10))
            self._marker = os.open(self.directory / "trace_marker", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as failure:
            self.close()
            raise SkipError(_refusal(f"{self.directory} may not be used", failure)) from failure
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Trace({self.directory.name})"

    def probe(
        self, symbol: str, arguments: Mapping[str, str] | None = None, *, name: str = "", at_return: bool = False
    ) -> str:
        """Record each call of the function *symbol*, or each return from it, and return the name of the event.

        Args:
            symbol: name of a kernel function.
            arguments: fields of the record and where the kernel finds them, as ``{"phys": "$arg1:x64"}``.
            name: of the event; the symbol's by default.
            at_return: record returns; the value is ``$retval``.

        Raises:
            NoSymbolError: there is no such function, or it may not be probed.
            SkipError: this kernel has no dynamic probes.
        """
        self._check_open()
        name = name or symbol.replace(".", "_")
        place, letter = self._probe_kind(symbol, at_return)
        fields = "".join(f" {field}={where}" for field, where in (arguments or {}).items())
        definition = f"{letter}:{self._group}/{name} {place}{fields}"
        try:
            _append(self._root / "dynamic_events", definition)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.EADDRNOTAVAIL, errno.EINVAL):
                raise NoSymbolError(
                    f"{symbol} cannot be probed: {failure.strerror} for {definition!r}; is it in /proc/kallsyms, once?"
                ) from None
            if failure.errno in (errno.EPERM, errno.EACCES):
                raise SkipError(_refusal(f"{symbol} may not be probed", failure)) from None
            raise
        (self.directory / "events" / self._group / name / "enable").write_text("1")
        self._probes.add(name)
        return name

    def _probe_kind(self, symbol: str, at_return: bool) -> tuple[str, str]:
        if (self._root / "kprobe_events").exists():
            return symbol, "r" if at_return else "p"
        readme = (self._root / "README").read_text()
        if "f[:[<group>/]" in readme:
            return symbol + ("%return" if at_return else ""), "f"
        raise SkipError("this kernel has no dynamic probes: it needs CONFIG_KPROBE_EVENTS or CONFIG_FPROBE_EVENTS")

    def enable(self, group: str, event: str) -> None:
        """Record a static event, as ``iommu``, ``map``.

        Raises:
            SkipError: this kernel has no such event.
        """
        self._check_open()
        switch = self.directory / "events" / group / event / "enable"
        if not switch.exists():
            raise SkipError(f"this kernel has no trace event {group}:{event}")
        switch.write_text("1")

    def mute(self, name: str) -> None:
        """Stop recording the event of a probe of ours, as :meth:`probe` named it."""
        self._check_open()
        (self.directory / "events" / self._group / name / "enable").write_text("0")

    def follow(self, pids: Collection[int]) -> None:
        """Record events of these threads only, and of those that they start from now on."""
        self._check_open()
        (self.directory / "options" / "event-fork").write_text("1")
        # The first write clears the list, the others add to it; a long write would be taken in part.
        with (self.directory / "set_event_pid").open("w") as file:
            for pid in sorted(pids):
                file.write(f"{pid}\n")
                file.flush()

    def mark(self, text: str) -> None:
        """Write *text* into the buffer, as an event ``tracing_mark_write`` of this thread."""
        self._check_open()
        os.write(self._marker, text.encode() + b"\n")

    def clear(self) -> None:
        """Throw away what was recorded, losses too."""
        self._check_open()
        (self.directory / "trace").write_text("")
        self._missed_before = self._missed()

    def read(self) -> list[TraceRecord]:
        """Return what was recorded since the last clear, in order.

        Raises:
            LostEventsError: the buffer did not hold all of it.
        """
        self._check_open()
        lost = self.lost_events()
        if lost:
            raise LostEventsError(
                f"{lost} trace events were lost, so the record proves nothing: trace less at a time, or with a larger "
                "buffer"
            )
        return list(parse_trace((self.directory / "trace").read_text(errors="replace").splitlines()))

    def lost_events(self) -> int:
        """Return how many events the buffers lost since the last clear."""
        lost = self._missed() - self._missed_before
        for stats in self.directory.glob("per_cpu/cpu*/stats"):
            for line in stats.read_text().splitlines():
                name, _, value = line.partition(":")
                if name in _LOSSES:
                    lost += int(value)
        return lost

    def _missed(self) -> int:
        """Count hits of our probes that could not be recorded, as a return probe with too many calls under way."""
        profile = self._root / "kprobe_profile"
        if not profile.exists():
            return 0
        rows = map(str.split, profile.read_text().splitlines())
        return sum(int(missed) for name, _, missed in rows if name in self._probes)

    def _release(self) -> None:
        if self._marker >= 0:
            os.close(self._marker)
        # First, since it disables the probes, and one that is enabled cannot be removed.
        self.directory.rmdir()
        _remove_group(self._root, self._group)


def _append(file: Path, line: str) -> None:
    # One write, and no truncation: opening for truncation would remove everybody's probes.
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, line.encode() + b"\n")
    finally:
        os.close(fd)


def _remove_group(root: Path, group: str) -> None:
    for definition in _definitions(root):
        match = _GROUP.match(definition + " ")
        if match and match[1] == group:
            _append(root / "dynamic_events", f"-:{group}/{match[3]}")


def _definitions(root: Path) -> list[str]:
    file = root / "dynamic_events"
    return file.read_text().splitlines() if file.exists() else []


def _remove_leftovers(root: Path) -> None:
    """Remove what processes of ours left that have ended.

    Another process can do the same now, and somebody can read a leftover: what cannot be removed stays for the next.
    """
    for directory in entries(root / "instances"):
        match = _INSTANCE.fullmatch(directory.name)
        if match and not _alive(match[1]):
            with contextlib.suppress(OSError):
                directory.rmdir()
    groups = {match[1]: match[2] for match in map(_GROUP.match, _definitions(root)) if match}
    for group, owner in groups.items():
        if not _alive(owner):
            with contextlib.suppress(OSError):
                _remove_group(root, group)


def _owner() -> str:
    """Name this process for all PID namespaces: its number, its start, and the namespace that the number is of."""
    return f"{os.getpid()}_{_start_of(os.getpid())}_{_pid_namespace()}"


def _alive(owner: str) -> bool:
    """Tell whether a process may be alive: one of another PID namespace cannot be looked up, so it counts as alive."""
    pid, start, namespace = map(int, owner.split("_"))
    return namespace != _pid_namespace() or _start_of(pid) == start


def _start_of(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 for one that has ended. Source: proc(5)."""
    # The command's name, in parentheses, can contain anything.
    fields = attribute_text(Path("/proc", str(pid), "stat")).rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0


def _pid_namespace() -> int:
    """Return the number of our PID namespace, 0 on a kernel without them."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except FileNotFoundError:
        return 0
