# SPDX-License-Identifier: MIT
"""Find what went wrong in a kernel log: panics, oopses, BUGs, warnings, lockdep and KASAN reports, stalls, DMA faults.

Pure: where the log comes from is the caller's business.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_LINES = 80

# "[    1.23] [ T123] message", with CONFIG_PRINTK_TIME and CONFIG_PRINTK_CALLER both optional.
_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\] ?)?(?:\[ *[TC]\d+\] ?)?")

# First line of a report. Anchored: the same words further to the right are somebody talking about a report.
_HEADERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("panic", re.compile(r"Kernel panic - not syncing")),
    ("KASAN", re.compile(r"BUG: K[A-Z]*SAN: ")),
    ("soft lockup", re.compile(r"(?:watchdog: )?BUG: (?:soft|workqueue) lockup")),
    ("hard lockup", re.compile(r"(?:NMI )?watchdog: (?:Watchdog detected )?hard LOCKUP", re.IGNORECASE)),
    ("lockdep", re.compile(r"\[ BUG: |BUG: \S+ too (?:low|small)!|INFO: trying to register non-static key")),
    ("BUG", re.compile(r"(?:BUG: |kernel BUG at )")),
    ("oops", re.compile(r"(?:Oops: |Oops\[|general protection fault|Unable to handle kernel |divide error: )")),
    (
        "lockdep",
        re.compile(
            r"(?:WARNING|INFO): (?:possible |inconsistent lock|suspicious RCU|bad unlock|lock held|Nested lock)"
        ),
    ),
    ("WARNING", re.compile(r"WARNING: ")),
    ("UBSAN", re.compile(r"UBSAN: ")),
    ("hung task", re.compile(r"INFO: task .* blocked for more than")),
    ("stall", re.compile(r"(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected .*stall")),
    ("leak", re.compile(r"kmemleak: \d+ new suspected memory leaks")),
)
# One line each. drivers/iommu/intel/dmar.c, dmar_fault_do_one(); drivers/iommu/amd/iommu.c, iommu_print_event().
_DMA_FAULT = re.compile(r"DMAR: ?\[.*\] Request device \[|.*Event logged \[\w+_(?:FAULT|ENTRY|ERROR|REQUEST)\b")
_CUT_HERE = "[ cut here ]"
_END = ("---[ end trace", "---[ end Kernel panic")


@dataclass(frozen=True, slots=True)
class Splat:
    """One report in a kernel log.

    Attributes:
        kind: ``panic``, ``oops``, ``BUG``, ``WARNING``, ``KASAN``, ``lockdep``, ``DMA fault``, ...
        title: its first line, without timestamp.
        text: the whole report as it stands in the log.
    """

    kind: str
    title: str
    text: str


def _kind(message: str) -> str | None:
    return next((kind for kind, pattern in _HEADERS if pattern.match(message)), None)


def _reports(lines: list[str]) -> Iterator[Splat]:
    index = 0
    while index < len(lines):
        message = _PREFIX.sub("", lines[index])
        kind = _kind(message)
        if kind is None:
            index += 1
            continue
        # WARN() with a text puts that between the mark and the header.
        first = next((at for at in range(index - 1, max(index - 4, -1), -1) if _CUT_HERE in lines[at]), index)
        last = index
        # A report goes on to its end mark; one that has none stops where another one starts.
        for last in range(index, min(index + _MAX_LINES, len(lines))):
            if any(mark in lines[last] for mark in _END):
                break
            if last + 1 < len(lines) and (_CUT_HERE in lines[last + 1] or "Kernel panic - not" in lines[last + 1]):
                break
        yield Splat(kind, message.strip(), "\n".join(lines[first : last + 1]))
        index = last + 1


def scan_kernel_log(text: str) -> tuple[Splat, ...]:
    """Return the reports of *text*, a kernel log as a console shows it, in order.

    What looks like a report but is none stays out: the stack dumps of fault injection, taint notes, and lines where
    the words do not stand at the start of the message.
    """
    return tuple(_reports(text.replace("\r", "").split("\n")))


def scan_dma_faults(text: str) -> tuple[Splat, ...]:
    """Return the faults that an Intel or AMD IOMMU reported in *text*, in order.

    They are apart from :func:`scan_kernel_log`, as they tell of a device, not of a broken kernel.
    """
    lines = text.replace("\r", "").split("\n")
    messages = ((line, _PREFIX.sub("", line).strip()) for line in lines)
    return tuple(Splat("DMA fault", message, line) for line, message in messages if _DMA_FAULT.match(message))
