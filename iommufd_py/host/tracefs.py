# SPDX-License-Identifier: MIT
"""A private trace instance with dynamic probes. Both are removed at the end.

Source: Documentation/trace/{ftrace,kprobetrace,fprobetrace}.rst.
"""

import contextlib
import errno
import itertools
import math
import os
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

from iommufd_py.base.errors import SkipError, ToolError, reason_of
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.base.sysfs import attribute_text, chosen_word, entries, kernel_text, limit_named, start_ticks
from iommufd_py.host.trace_records import TraceRecord, parse_trace
from iommufd_py.objects.resource import Resource

_LOCKDOWN = Path("/sys/kernel/security/lockdown")
# Both names contain the process that made them (number, start and PID namespace), and end with a count.
_INSTANCE = re.compile(r"iommufd-py-(\d+_\d+_\d+)-\d+")
_GROUP = re.compile(r"[a-z]\w*:(iommufd_py_(\d+_\d+_\d+)_\d+)/(\w+) ")
_BUFFER_BYTES = 8 << 20
_LOSSES = ("overrun", "commit overrun", "dropped events")

_sequence = itertools.count()


class NoSymbolError(ToolError):
    """The running kernel has no function of this name that can be probed."""


class LostEventsError(ToolError):
    """The trace buffer was too small, so events are missing."""


def find_tracefs() -> Path:
    """Return the mount point of tracefs.

    Raises:
        SkipError: tracefs is not mounted, or this process has no permission to use it.
    """
    file = Path("/proc/self/mounts")
    with limit_named(file):
        content = file.read_bytes()
    # Names of other mounts can be invalid UTF-8, or contain characters that Python takes for white space.
    mounts = (line.split(b" ") for line in content.split(b"\n") if line)
    found = next((Path(os.fsdecode(words[1])) for words in mounts if words[2] == b"tracefs"), None)
    if found is None:
        if Path("/sys/kernel/tracing").exists():
            raise SkipError("tracefs is not mounted: mount -t tracefs nodev /sys/kernel/tracing")
        raise SkipError("this kernel has no tracefs: it is built without CONFIG_FTRACE")
    if not os.access(found / "trace", os.R_OK | os.W_OK):
        # A kernel that boots in lockdown makes no files in tracefs.
        if locked := _lockdown():
            raise SkipError(f"{found} cannot be used: {locked}")
        raise SkipError(f"there is no permission to use {found}: {permission_remedy()}")
    try:
        # access() succeeds on a kernel whose lockdown began later. Only open() checks the lockdown.
        with limit_named(found / "trace"):
            os.close(os.open(found / "trace", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as failure:
        raise SkipError(_refusal(f"{found} cannot be used", failure)) from None
    return found


def require_host_pids() -> None:
    """Check that our PIDs are those of the host, which the records of a trace have.

    Raises:
        SkipError: this process is in a PID namespace of its own, as in a container.
    """
    # Process 2 is kthreadd in the initial PID namespace only.
    if attribute_text(Path("/proc/2/comm")) != "kthreadd":
        raise SkipError("the kernel traces by the PIDs of the host: run the command outside of the container")


def lockdown_level(text: str | None = None) -> str:
    """Return the kernel's lockdown level: ``none``, ``integrity``, ``confidentiality``; empty if unknown.

    Args:
        text: content of /sys/kernel/security/lockdown; default: that of this machine.
    """
    return chosen_word(attribute_text(_LOCKDOWN) if text is None else text)


def _refusal(what: str, failure: OSError) -> str:
    locked = _lockdown() if failure.errno == errno.EPERM else ""
    return f"{what}: {locked or reason_of(failure)}"


def _lockdown() -> str:
    """Return the reason and the remedy if the kernel's lockdown forbids tracing, else an empty text."""
    if lockdown_level() != "confidentiality":  # The level "integrity" allows tracing.
        return ""
    return (
        "this kernel is in lockdown (confidentiality), as under Secure Boot, and permits no tracing; switch "
        "Secure Boot off in the firmware setup, or boot without lockdown="
    )


class Trace(Resource):
    """A private trace instance. It does not disturb other users of tracing.

    Closing it removes its probes and the instance. If the process is killed instead, the next Trace removes them. The
    kernel keeps an instance or a probe that another program uses: it then records nothing for us, close() gives a
    ResourceWarning, and the first Trace after the end of this process removes it.

    Args:
        clock: name of a clock in ``trace_clock``. ``counter`` numbers all events of all CPUs; ``mono_raw`` is
            CLOCK_MONOTONIC_RAW.
        buffer_bytes: size of the buffer of each CPU.
        keep_oldest: when a buffer is full, drop new events and keep the old ones.

    Raises:
        SkipError: there is no tracefs, or no permission to use it.
        ToolError: too many files are open. Each method that writes to tracefs raises it, too.
    """

    def __init__(self, clock: str = "counter", buffer_bytes: int = _BUFFER_BYTES, *, keep_oldest: bool = False) -> None:
        super().__init__()
        self._root = find_tracefs()
        _remove_leftovers(self._root)
        number = next(_sequence)
        owner = _owner()
        self._group = f"iommufd_py_{owner}_{number}"
        self.directory = self._root / "instances" / f"iommufd-py-{owner}-{number}"
        self._buffer_bytes = buffer_bytes
        self._marker = -1
        self._probes: set[str] = set()
        self._missed_before = 0
        with self._opening():
            try:
                self.directory.mkdir()
            except OSError as failure:
                raise SkipError(f"no trace instance can be made in {self._root}: {failure.strerror}") from failure
        try:
            self._write("trace_clock", clock)
            self._write("buffer_size_kb", str(buffer_bytes >> 10))
            self._write("options/overwrite", "01"[not keep_oldest])
            with limit_named(self.directory / "trace_marker"):
                self._marker = os.open(self.directory / "trace_marker", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as failure:
            self.close()
            raise SkipError(_refusal(f"{self.directory} cannot be used", failure)) from failure
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
            arguments: fields of the record with their places, for example ``{"phys": "$arg1:x64"}``.
            name: name of the event; default: the symbol.
            at_return: record the returns; the return value is ``$retval``.

        Raises:
            NoSymbolError: the function does not exist or cannot be probed.
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
                    f"{symbol} cannot be probed: {failure.strerror} for {definition!r}; check that /proc/kallsyms "
                    "has it once"
                ) from None
            if failure.errno in (errno.EPERM, errno.EACCES):
                raise SkipError(_refusal(f"{symbol} cannot be probed", failure)) from None
            raise
        self._probes.add(name)
        self._write(f"events/{self._group}/{name}/enable", "1")
        return name

    def _probe_kind(self, symbol: str, at_return: bool) -> tuple[str, str]:
        if (self._root / "kprobe_events").exists():
            return symbol, "r" if at_return else "p"
        readme = kernel_text(self._root / "README")
        if "f[:[<group>/]" in readme:
            return symbol + ("%return" if at_return else ""), "f"
        raise SkipError("this kernel has no dynamic probes: it needs CONFIG_KPROBE_EVENTS or CONFIG_FPROBE_EVENTS")

    def enable(self, group: str, event: str) -> None:
        """Record a static event, for example ``iommu`` and ``map``.

        Raises:
            SkipError: this kernel has no such event.
        """
        self._check_open()
        switch = f"events/{group}/{event}/enable"
        if not (self.directory / switch).exists():
            raise SkipError(f"this kernel has no trace event {group}:{event}")
        self._write(switch, "1")

    def mute(self, name: str) -> None:
        """Stop recording the event *name* that :meth:`probe` returned."""
        self._check_open()
        self._write(f"events/{self._group}/{name}/enable", "0")

    def select(self, name: str, condition: str) -> None:
        """Record the event *name* that :meth:`probe` returned only if its fields fulfil *condition*.

        Source: "Event filtering" in Documentation/trace/events.rst.
        """
        self._check_open()
        self._write(f"events/{self._group}/{name}/filter", condition)

    def follow(self, pids: Collection[int]) -> None:
        """Record only events of these threads and of threads that they start from now on."""
        self._check_open()
        self._write("options/event-fork", "1")
        # The first write clears the list, and the others add to it. The kernel would take only a part of a long write.
        listed = self.directory / "set_event_pid"
        with limit_named(listed), listed.open("w") as file:
            for pid in sorted(pids):
                file.write(f"{pid}\n")
                file.flush()

    def mark(self, text: str) -> None:
        """Write *text* into the buffer, as an event ``tracing_mark_write`` of this thread."""
        self._check_open()
        os.write(self._marker, text.encode() + b"\n")

    def clear(self) -> None:
        """Discard all records and the count of lost ones."""
        self._check_open()
        self._write("trace", "")
        self._missed_before = self._missed()

    def read(self) -> list[TraceRecord]:
        """Return the records since the last clear, in order.

        Raises:
            LostEventsError: the buffer was too small for all of them.
        """
        self._check_open()
        lost = self.lost_events()
        if lost:
            raise LostEventsError(
                f"{lost} trace events were lost, so the records prove nothing: trace less at a time, or with a larger "
                "buffer"
            )
        return list(parse_trace(kernel_text(self.directory / "trace").split("\n")))

    def fill(self) -> float:
        """Return the fill level of the fullest buffer, 0 to 1; more than 1 if events were dropped."""
        self._check_open()
        counts = map(_counts, self._statistics())
        return max(2.0 if one["dropped events"] else one["bytes"] / self._buffer_bytes for one in counts)

    def take(self) -> tuple[list[TraceRecord], float]:
        """Stop recording. Return the records, and the time until which they are complete. Clear the buffer.

        The time is infinite if no event was dropped. It applies to a trace that keeps the oldest events.
        :meth:`resume` records again.
        """
        self._check_open()
        self._write("tracing_on", "0")
        full = {int(file.parent.name[3:]) for file in self._statistics() if _counts(file)["dropped events"]}
        records = list(parse_trace(kernel_text(self.directory / "trace").split("\n")))
        last = {record.cpu: record.time for record in records}
        self.clear()
        return records, min((last.get(cpu, 0.0) for cpu in full), default=math.inf)

    def resume(self) -> None:
        """Continue to record after :meth:`take`."""
        self._check_open()
        self._write("tracing_on", "1")

    def _write(self, name: str, text: str) -> None:
        with limit_named(self.directory / name):
            (self.directory / name).write_text(text)

    def _statistics(self) -> list[Path]:
        return entries(self.directory, "per_cpu/cpu*/stats")

    def lost_events(self) -> int:
        """Return the number of events that the buffers lost since the last clear."""
        counts = map(_counts, self._statistics())
        return self._missed() - self._missed_before + sum(count[name] for count in counts for name in _LOSSES)

    def _missed(self) -> int:
        """Count the hits of our probes without a record, such as a return probe with too many calls at once."""
        profile = self._root / "kprobe_profile"
        if not profile.exists():
            return 0
        rows = map(str.split, kernel_text(profile).splitlines())
        return sum(int(missed) for name, _, missed in rows if name in self._probes)

    def _release(self) -> None:
        if self._marker >= 0:
            os.close(self._marker)
        # Remove the instance first: this disables the probes, and an enabled probe cannot be removed.
        try:
            self.directory.rmdir()
        except OSError as failure:
            self._leave_if_busy(self.directory, failure)
            self._write("events/enable", "0")
        if self._probes:
            try:
                _remove_group(self._root, self._group)
            except OSError as failure:
                self._leave_if_busy(self._root / "events" / self._group, failure)

    def _leave_if_busy(self, directory: Path, failure: OSError) -> None:
        if failure.errno != errno.EBUSY:
            raise failure
        text = f"{directory} cannot be removed: another program uses it; a later trace removes it"
        warnings.warn(text, ResourceWarning, stacklevel=2)


def _counts(stats: Path) -> dict[str, int]:
    """Return the whole numbers of a file per_cpu/cpuN/stats by name; its times are left out."""
    pairs = (line.partition(": ") for line in kernel_text(stats).splitlines())
    return {name: int(value) for name, _, value in pairs if value.strip().isdigit()}


def _append(file: Path, line: str) -> None:
    # Append in one write: opening the file for truncation would remove all probes of all users.
    with limit_named(file):
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
    return kernel_text(file).splitlines() if file.exists() else []


def _remove_leftovers(root: Path) -> None:
    """Remove the instances and probes of dead processes of this tool.

    Another process may remove them at the same time, or a program may still read one. Those stay for the next call.
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
    """Return a unique name for this process in all PID namespaces: its number, its start, and its PID namespace."""
    return f"{os.getpid()}_{start_ticks(os.getpid())}_{_pid_namespace()}"


def _alive(owner: str) -> bool:
    """Return whether a process may be alive. One of another PID namespace is unknown here, so it counts as alive."""
    pid, start, namespace = map(int, owner.split("_"))
    return namespace != _pid_namespace() or start_ticks(pid) == start


def _pid_namespace() -> int:
    """Return the number of our PID namespace; 0 on a kernel without PID namespaces."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except FileNotFoundError:
        return 0
