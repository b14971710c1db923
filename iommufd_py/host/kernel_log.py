# SPDX-License-Identifier: MIT
"""The reports in a kernel log: panics, oopses, BUGs, warnings, lockdep and KASAN reports, stalls, DMA faults. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

_MAX_LINES = 80
# WARN() prints a text of at most this number of lines before the header.
_MOST_TEXT_LINES = 20

# A terminal's colours, and what a serial line adds to the text.
_NO_TEXT = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\0]")
# "[    1.23] [ T123] message", with CONFIG_PRINTK_TIME and CONFIG_PRINTK_CALLER both optional. Other programs print the
# same message with more before it.
_PREFIX = re.compile(
    # A prompt or another unfinished line of the console, and the time of a program that records a console.
    r"^(?:(?!\[ *\d+\.\d{6}\]).*?(?=\[ *\d+\.\d{6}\]))?"
    # The level, or the head of a record of /dev/kmsg, to which netconsole can add the kernel's release.
    r"(?:<\d+>|(?:\d[^,; ]*,)?\d+,\d+,\d+,[^,; ]*(?:,caller=(?P<sender>[TC]\d+))?[^; ]*;)?"
    # dmesg --decode
    r"(?:kern *:[a-z]+ *: )?"
    # The time: of printk(), with the difference (dmesg --show-delta, journalctl -o short-delta), as dmesg -T and -e
    # print it in the user's language, and as ISO 8601.
    r"(?:\[ *\+?\d+\.\d+(?: <[^>\]]*>)?\] ?|\[[^\[\]]{0,40}\d\d:\d\d[^\[\]]*\] ?"
    r"|(?:1 )?\d{4}-\d\d-\d\d[T ][\d:,.+-]+Z? )?"
    # The journal and syslog: time (unless above) in the user's language, host (unless --no-hostname), program.
    # RFC 5424 has three fields more.
    r"(?:(?:(?:[^\[\]]{1,40}\d\d:\d\d\S*(?: [A-Z]\S*)? |\d+\.\d+ )?(?:\S+ )?kernel: )"
    r"|\S+ kernel - - (?:-|\[[^\]]*\]) )?"
    r"(?:\[ *\d+\.\d+\] ?)?(?:\[ *(?P<caller>[TC]\d+)\] ?)?"
)

# They check memory accesses, and frame each report with ruled lines.
_CHECKERS = ("KASAN", "KCSAN", "KFENCE", "KMSAN")

# First line of a report. Anchored, because the same words later in a line only mention a report. The formats
# are those of the kernel's sources: scripts/report_headers lists them, and a test compares.
_HEADERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # The second form is that of an exception that the kernel cannot survive, with or without an oops behind it.
    (
        "panic",
        re.compile(
            r"Kernel panic - not syncing"
            r"|(?:traps: )?PANIC: (?:early exception|double fault|invalid or fatal FRED event)"
        ),
    ),
    *((kind, re.compile(f"BUG: {kind}: ")) for kind in _CHECKERS),
    ("soft lockup", re.compile(r"(?:watchdog: )?BUG: (?:soft|workqueue) lockup")),
    ("hard lockup", re.compile(r"(?:NMI )?watchdog: .*\bhard LOCKUP\b", re.IGNORECASE)),
    ("lockdep", re.compile(r"\[ BUG: |BUG: \S+ too (?:low|small)!|INFO: trying to register non-static key")),
    # Without CONFIG_DEBUG_BUGVERBOSE, Linux 6.12 prints "Kernel". The third form is slub's, which names a cache:
    # "BUG kmalloc-64 (Not tainted): Redzone overwritten".
    # The other forms report, in their order: the idle thread (kernel/sched/idle.c), a softirq (kernel/softirq.c), a
    # poisoned page (mm/page_poison.c), a kobject (lib/kobject.c), a callback that was given to RCU twice
    # (kernel/rcu/tree.c), a DMA pool (mm/dmapool.c), a maple tree (include/linux/maple_tree.h), a page table of the CPU
    # (pgtable_64.h), the neighbours of an interface (net/core/neighbour.c), tasks (kernel/sched/psi.c), and references
    # (lib/percpu-refcount.c).
    (
        "BUG",
        re.compile(
            r"(?:BUG: |[Kk]ernel BUG at |BUG .+ \([^)]*\): |bad: scheduling from the idle thread!"
            r"|(?:softirq: )?huh, entered softirq |pagealloc: (?:single bit error|memory corruption)"
            r"|kobject: kobject .*(?:, something is seriously wrong|: must have a ktype |: invalid kobject pointer)"
            r"|(?:rcu: )?\w+\(\): Double-freed CB "
            r"|\S+ \S+: \w+ .*, (?:\S+ \((?:corrupted|bad dma)\)|dma \S+ already free)$|BUG at \S+:\d+ \(\d+\)$"
            r"|\S+:\d+: bad p(?:gd|4d|ud|md|te) |NEIGH: BUG, |psi: (?:task underflow|inconsistent task state)! "
            r"|\w+: \w+\(\): percpu_ref underflow)"
        ),
    ),
    # Before Linux 6.10 die() names the exception alone: "invalid opcode: 0000 [#1] PREEMPT SMP". Other architectures
    # print "Internal error: " (arm64) or no code (RISC-V) first.
    (
        "oops",
        re.compile(
            r"(?:Oops: |Oops\[|general protection fault|Unable to handle kernel |Internal error: "
            r"|[A-Za-z][\w -]*(?:: [0-9a-f]{4})? \[#\d+\])"
        ),
    ),
    (
        "lockdep",
        re.compile(
            r"(?:WARNING|INFO): (?:possible |inconsistent lock|suspicious RCU|bad (?:unlock|contention)|lock held"
            r"|held lock|Nested lock|chain_key|\S+-safe -> |\S+ still has locks held)"
        ),
    ),
    # WARN() prints "WARNING: CPU: 0 PID: 1 at FILE:LINE" in Linux 6.12, "WARNING: FILE:LINE at FUNCTION" in 7.2. The
    # next forms are those of the unwinder and of kernel/workqueue.c. Other messages with the word are advice at boot:
    # "WARNING: BIOS bug: CPU MTRRs don't cover all of memory".
    # Some functions print their stack without the word: sysfs_warn_dup(), if a driver registers a name twice;
    # schedule_timeout(), for a negative time; ex_handler_msr(), for a register that the CPU does not have; iounmap();
    # the allocator, for flags that exclude each other; maple trees; neigh_destroy(); a network driver's checksums.
    # Others do not even print a stack: for a range of addresses or a count of runtime PM that is given back twice, a
    # name of a sysctl that is registered twice, wrong counts of slub, and a poll function of a network driver.
    (
        "WARNING",
        re.compile(
            r"WARNING: (?:CPU: \d+ PID: |(?:\S+:\d+ )?at |kernel stack |stack recursion |bad lookup "
            r"|.*\.orc_unwind table|Flushing system-wide workqueues)"
            r"|sysfs: cannot create duplicate filename |schedule_timeout: wrong timeout value "
            r"|unchecked MSR access error: |iounmap: bad address |Unexpected gfp: |WARN at \S+:\d+ \(\d+\)$"
            r"|neighbour: Destroying alive neighbour |(?:\S+ ){0,2}\S+: hw csum failure"
            r"|\S+ \S+: (?:Unbalanced \w+!|Runtime PM usage count underflow!|Attempt to enable runtime PM when )"
            r"|resource: Trying to free nonexistent resource |sysctl duplicate entry:"
            r"|SLUB:? \S+:? \d+ (?:partial )?slabs counted but counter="
            r"|\S+ \S+ \S+: NAPI poll function \S+ returned \d+, exceeding its budget "
        ),
    ),
    ("UBSAN", re.compile(r"UBSAN: ")),
    ("hung task", re.compile(r"INFO: task .* blocked\b.* for more than")),
    (
        "stall",
        re.compile(
            r"(?:rcu: )?INFO: \S+ (?:self-)?detected (?:expedited )?stall|smp: csd: Detected non-responsive CSD lock"
            r"|sched: CPU \d+ need_resched set for > |(?:\S+ ){0,2}\S+: NETDEV WATCHDOG: "
        ),
    ),
    # Besides new leaks: kmemleak does not know an object, somebody holds a reference to a network interface or to an
    # object of iommufd for too long, and a table of neighbours ends while some are left in it.
    (
        "leak",
        re.compile(
            r"kmemleak: (?:\d+ new suspected memory leaks|.*\bunknown object\b|Found object by alias"
            r"|Scan area larger than |Cannot insert )|unregister_netdevice: waiting for "
            r"|iommufd: Time out waiting for iommufd object to become free|neighbour: neighbour leakage"
        ),
    ),
    # The non-maskable ones are errors that a device reports to the machine: arch/x86/kernel/nmi.c.
    (
        "interrupt",
        re.compile(
            r"irq (?:event )?\d+: (?:nobody cared|bogus return value)|No irq handler for \d+\.\d+"
            r"|unexpected IRQ trap at vector |Uhhuh\. NMI received for unknown reason "
            r"|NMI: (?:PCI system error \(SERR\)|IOCK error)"
        ),
    ),
)
# A BUG or an exception that announces an oops. The lines of die() after it belong to the same report.
_ANNOUNCES_OOPS = re.compile(
    r"BUG: (?:[Kk]ernel NULL pointer dereference|unable to handle |.* stack guard page was hit"
    r"|invalid or fatal FRED event)"
    r"|[Kk]ernel BUG at |Unable to handle |(?:traps: )?PANIC: (?:double fault|invalid or fatal FRED event)"
)
# One line each: faults of DMA, of its invalidation, of page requests. drivers/iommu/intel/{dmar,iommu,prq}.c;
# drivers/iommu/amd/iommu.c, iommu_print_event() and wait_on_sem(); drivers/iommu/virtio-iommu.c;
# drivers/iommu/arm/arm-smmu{,-v3}/*.c; drivers/iommu/riscv/iommu.c; drivers/iommu/io-pgfault.c.
_DMA_FAULT = re.compile(
    r"DMAR: ?\[.*\] Request device \["
    r"|DMAR: (?:VT-d detected Invalidation [\w-]+ Error|Flush IOTLB failed)"
    r"|\S+: Invalid page request: "
    r"|IOMMU: \S+: (?:PRQ overflow detected|Address is not canonical|Page request in Privilege Mode"
    r"|Execution request not supported|Page request without PASID)"
    r"|\S+ \S+: (?:domain|page|unknown) fault from EP \d+"
    r"|arm-smmu-v3 \S+: (?:event 0x[0-9a-f]+ received:|CMDQ (?:error|timeout)|CMD_SYNC timeout"
    r"|(?:EVTQ|PRIQ) overflow detected|(?:EVTQ|PRIQ) write aborted|(?:CMDQ|EVTQ|PRIQ|GERROR) MSI write aborted"
    r"|device has entered Service Failure Mode)"
    r"|\S+ \S+: iopf with pasid -?\d+ aborted"
    r"|\S+ \S+: (?:Unhandled context fault: |Unexpected global fault|Blocked unknown Stream ID |TLB sync timed out)"
    r"|\S+ \S+: (?:Fault \d+ devid: 0x|Hardware error: (?:queue|command) |Queue #\d+ error;)"
    r"|(?:\S+ \S+: )?AMD-Vi: (?:Event logged \[|(?:IOMMU \S+: )?Completion-Wait loop timed out|Command buffer timeout)"
)
_RULE = re.compile(r"={20,}$")
_CUT_HERE = "[ cut here ]"
_END = ("---[ end trace", "---[ end Kernel panic")


@dataclass(frozen=True, slots=True)
class Splat:
    """One report in a kernel log.

    Attributes:
        kind: ``panic``, ``oops``, ``BUG``, ``WARNING``, ``KASAN``, ``KCSAN``, ``lockdep``, ``DMA fault``, ...
        title: first line of the report, without timestamp.
        text: the whole report, as in the log.
    """

    kind: str
    title: str
    text: str


def _kind(message: str) -> str | None:
    return next((kind for kind, pattern in _HEADERS if pattern.match(message)), None)


def _starts(messages: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the first line, the line of the header and the kind of each report."""
    announced = False
    last = -1
    for at, message in enumerate(messages):
        kind = _kind(message)
        if _ended(message):
            announced = False
        if kind is None or (kind == "oops" and announced):
            announced = announced and kind is None
            continue
        announced = bool(_ANNOUNCES_OOPS.match(message))
        # WARN() with a text prints it between the mark and the header. Other reports start with a ruled line.
        # A mark above the last header belongs to that one: a panic on a warning has no mark of its own.
        above = range(at - 1, max(at - _MOST_TEXT_LINES, last), -1)
        last = at
        first = next((index for index in above if _CUT_HERE in messages[index]), at)
        if first == at and at and _RULE.match(messages[at - 1]):
            first = at - 1
        yield first, at, kind


def _ended(message: str) -> bool:
    return any(mark in message for mark in _END)


def _ends(kind: str, message: str) -> bool:
    return _ended(message) or (kind in _CHECKERS and _RULE.match(message) is not None)


@dataclass(frozen=True, slots=True)
class _Report:
    """Positions in the log of one report: of its header, of the lines of its caller, and of the line behind its end."""

    kind: str
    header: int
    own: Sequence[int]
    end: int


def _reports_of_caller(places: Sequence[int], messages: Sequence[str]) -> Iterator[_Report]:
    """Yield the reports of one caller, whose lines are at *places*."""
    own = [messages[at] for at in places]
    starts = list(_starts(own))
    for number, (first, header, kind) in enumerate(starts):
        # A report ends at its end mark, which is a ruled line for a memory checker. Without one it ends at the start of
        # the next report.
        behind = starts[number + 1][0] if number + 1 < len(starts) else len(own)
        behind = max(min(behind, header + _MAX_LINES), header + 1)
        end = next((at + 1 for at in range(header, behind) if _ends(kind, own[at])), behind)
        open_end = end == len(own) and not _ends(kind, own[-1])
        yield _Report(kind, places[header], places[first:end], len(messages) if open_end else places[end - 1] + 1)


def _reports(lines: list[str]) -> Iterator[Splat]:
    messages: list[str] = []
    # Two CPUs can report at the same time. Each line names its caller, if the kernel has CONFIG_PRINTK_CALLER.
    callers: dict[str | None, list[int]] = {}
    caller = None
    for at, line in enumerate(lines):
        prefix = _PREFIX.match(line)
        assert prefix is not None  # All its parts are optional.
        # A line without a caller, such as a program's output, belongs to the line above.
        caller = prefix["caller"] or prefix["sender"] or caller
        callers.setdefault(caller, []).append(at)
        messages.append(line[prefix.end() :])
    found = [one for places in callers.values() for one in _reports_of_caller(places, messages)]
    taken = {at for one in found for at in one.own}
    for one in sorted(found, key=lambda report: report.header):
        own = set(one.own)
        # A report about a stall has the stacks that other CPUs print. The lines of another report stay there.
        body = (at for at in range(one.header, one.end) if at in own or at not in taken)
        whole = [*(at for at in one.own if at < one.header), *islice(body, _MAX_LINES)]
        yield Splat(one.kind, messages[one.header].strip(), "\n".join(lines[at] for at in whole))


def _lines(text: str) -> list[str]:
    return _NO_TEXT.sub("", text).split("\n")


def scan_kernel_log(text: str) -> tuple[Splat, ...]:
    """Return the reports of *text*, a kernel log as a console, netconsole, dmesg, syslog or the journal shows it.

    Some lines look like a report but are none: the stack dumps of fault injection, notes about tainting, and lines with
    the words later in the message. They are left out.
    """
    return tuple(_reports(_lines(text)))


def scan_dma_faults(text: str) -> tuple[Splat, ...]:
    """Return the faults that an Intel, AMD, Arm, RISC-V or virtio IOMMU reported in *text*, in order.

    Each is one line: stopped DMA, a stopped interrupt, an invalidation that did not complete, or a wrong page request.
    :func:`scan_kernel_log` leaves them out, because they report a device and not a fault of the kernel.
    """
    lines = _lines(text)
    messages = ((line, _PREFIX.sub("", line).strip()) for line in lines)
    return tuple(Splat("DMA fault", message, line) for line, message in messages if _DMA_FAULT.match(message))
