# SPDX-License-Identifier: MIT
"""Reports in a kernel log, such as oopses, warnings and stalls, are found whole in recorded and generated logs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.host.kernel_log import scan_dma_faults, scan_kernel_log

LOGS = Path(__file__).parent / "kernel_logs"
REPORTS = Path(__file__).parent / "reports"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("boot.log", []),
        ("sysrq-crash.log", ["panic"]),
        ("warning-7.3.log", ["WARNING"]),
        ("warning-6.12.log", ["WARNING"]),
        ("bug.log", ["BUG", "panic"]),
        ("null-dereference.log", ["BUG", "panic"]),
        ("lockdep.log", ["lockdep"]),
        ("kasan.log", ["KASAN"]),
        ("fault-injection.log", []),
    ],
)
def test_recorded_logs(name: str, kinds: list[str]) -> None:
    splats = scan_kernel_log((LOGS / name).read_text())
    assert [splat.kind for splat in splats] == kinds


@pytest.mark.parametrize(
    "message",
    [
        "BUG: KASAN: slab-out-of-bounds in pages_to_xarray+0x1a2/0x2e0",
        "BUG: KASAN: null-ptr-deref in iopt_unmap_iova_range+0x91/0x200",
        "WARNING: possible recursive locking detected",
        "WARNING: inconsistent lock state",
        "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
        "WARNING: bad unlock balance detected!",
        "WARNING: held lock freed!",
        "WARNING: lock held when returning to user space!",
        "WARNING: suspicious RCU usage",
        "[ BUG: Invalid wait context ]",
        "INFO: trying to register non-static key.",
        "BUG: MAX_LOCKDEP_CHAINS too low!",
        "BUG: sleeping function called from invalid context at mm/gup.c:1",
    ],
)
def test_messages_of_a_debug_kernel_are_reports(message: str) -> None:
    """Source: kernel/locking/lockdep.c, mm/kasan/report.c, kernel/sched/core.c."""
    (splat,) = scan_kernel_log(f"[    1.000000] [   T71] {message}\n[    1.000001] [   T71] Call Trace:\n")
    assert splat.title == message


def test_a_report_is_whole_and_no_more() -> None:
    (splat,) = scan_kernel_log((LOGS / "warning-7.3.log").read_text())
    lines = splat.text.splitlines()
    assert "[ cut here ]" in lines[0]
    assert splat.title.startswith("WARNING: ")
    assert "---[ end trace" in lines[-1]


@pytest.mark.parametrize(
    "message",
    [
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled",
        "udevd[12]: BUG: this is what somebody says",
        "FAULT_INJECTION: forcing a failure.",
        "clocksource: Long readout interval, skipping watchdog check",
        "x86/cpu: SGX disabled or unsupported by BIOS. BUG: no",
        "INFO: nothing to see",
        # Advice at boot: arch/x86/kernel/cpu/mtrr/cleanup.c, init/main.c, arch/arm64/kernel/setup.c
        "WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 62MB of RAM.",
        "WARNING: 'bootconfig' found on the kernel command line but CONFIG_BOOT_CONFIG is not set.",
        "WARNING: x1-x3 nonzero in violation of boot protocol:",
        "nvme 0000:00:04.0: the log page is (corrupted)",
    ],
)
def test_words_alone_are_no_report(message: str) -> None:
    assert scan_kernel_log(f"[    1.000000] {message}\n") == ()


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "",
            "[    1.234567] ",
            "[   12.345678] [   T71] ",
            "[    1.2] [ C0] ",
            "[    1.2][    C0] ",
            "<4>[    1.000000] ",
        ),
        # dmesg, with each of its options for the time
        *("kern  :warn  : [    1.000000] ", "[Fri Nov 27 00:27:38 2026] ", "[Nov27 00:27] ", "[  +0.000012] "),
        *(
            "[    1.234567 <    0.000001>] ",
            "2026-11-27T00:27:38,123456+00:00 ",
            "kern  :err   : [Fri Nov  7 00:27:38 2026] ",
        ),
        "\x1b[32m[    1.234567] \x1b[0m\x1b[33m",
        # journalctl --output, and the files of syslog
        *(
            "Nov 27 00:27:38 host kernel: ",
            "Nov  7 00:27:38 host kernel: [    1.234567] ",
            "[    1.234567] host kernel: ",
        ),
        *("2026-11-27T00:27:38+0000 host kernel: ", "2026-11-27T00:27:38.123456+00:00 a-1.b kernel: [    1.2] [ T1] "),
        *(
            "Nov 27 00:27:38.123456 host kernel: ",
            "Fri 2026-11-27 00:27:38 CEST host kernel: ",
            "1764203258.12 host kernel: ",
            "Nov 27 00:27:38 kernel: ",
            "2026-11-27 00:27:38.123456 host kernel: ",
            "<4>1 2026-11-27T00:27:38.123456Z host kernel - - - [    1.2] ",
            '<4>1 2026-11-27T00:27:38.123456Z host kernel - - [meta sequenceId="7"] ',
            "[   12.345678 <    0.000012 >] host kernel: ",
            "[   12.345678 <            >] host kernel: ",
        ),
        # both in other languages
        *("[Sa Nov 28 00:08:18 2026] ", "[sam. nov. 28 00:08:18 2026] ", "[nov.28 00:08] ", "[11月28 00:08] "),
        *("Mär 28 00:08:18 host kernel: ", "févr. 28 00:08:18 host kernel: ", "11月 28 00:08:18 host kernel: "),
        "sam. 2026-11-28 00:08:18 CET host kernel: ",
        # netconsole, and a record of /dev/kmsg
        *("4,1234,5678901,-;", "7.3.4,4,1234,5678901,-,caller=T71;", "4,1234,5678901,c,caller=C0;"),
        # a serial console
        *("[root@vm ~]# [   12.345678] ", "login: [   12.345678][    C0] ", "\0\0[    1.234567] "),
        # a program that records one
        *("[2026-11-27 00:27:38] [   12.345678] ", "[00:27:38.123] [   12.345678] "),
    ],
)
def test_every_prefix_of_printk_is_understood(prefix: str) -> None:
    (splat,) = scan_kernel_log(f"{prefix}quiet\r\n{prefix}WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1\r\n")
    assert splat.title == "WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1"


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    for splat in scan_kernel_log(text):
        assert splat.title
        assert splat.title in splat.text


@given(st.integers(0, 5))
def test_every_report_is_counted(count: int) -> None:
    one = "------------[ cut here ]------------\nWARNING: a.c:1 at f+0x1, CPU#0: x\nRIP: f\n---[ end trace 0 ]---\n"
    assert len(scan_kernel_log(("between\n" + one) * count)) == count


@pytest.mark.parametrize(
    "message",
    [
        "DMAR: [DMA Write NO_PASID] Request device [0000:00:10.0] fault addr 0x1000 [fault reason 0x05] PTE Write",
        "DMAR: [DMA Read PASID 0x2] Request device [00:10.0] fault addr 0x1000 [fault reason 0x06] PTE Read access",
        "DMAR: [INTR-REMAP] Request device [00:10.0] fault index 0x0 [fault reason 0x25] Blocked a compatibility",
        "vfio-pci 0000:00:10.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0001 address=0x1000 flags=0x0000]",
        "virtio_iommu virtio1: page fault from EP 128 at 0x100000000 [W]",
        "virtio_iommu virtio1: unknown fault from EP 128",
        "IOMMU: dmar0: PRQ overflow detected",
        "IOMMU: dmar0: Page request without PASID",
        "arm-smmu-v3 2b400000.iommu: event 0x10 received:",
        "arm-smmu-v3 2b400000.iommu: CMD_SYNC timeout at 0x00000012 [hwprod 0x00000012, hwcons 0x00000010]",
        "arm-smmu-v3 2b400000.iommu: EVTQ MSI write aborted",
        "nvme 0000:00:10.0: iopf with pasid 1 aborted",
        "arm-smmu 5000000.iommu: Unhandled context fault: fsr=0x402, iova=0x1000, fsynr=0x1, cbfrsynra=0x1, cb=0",
        "riscv,iommu 3010000.iommu: Fault 13 devid: 0x10 iotval: 1000 iotval2: 0",
        # Invalidations that the IOMMU did not take: drivers/iommu/intel/iommu.c, drivers/iommu/riscv/iommu.c
        "DMAR: Flush IOTLB failed",
        "riscv,iommu 3010000.iommu: Hardware error: command enqueue failed",
    ],
)
def test_dma_faults(message: str) -> None:
    text = f"[    1.000000] DMAR: DRHD: handling fault status reg 2\n[    1.000001] {message}\n"
    (fault,) = scan_dma_faults(text)
    assert (fault.kind, fault.title) == ("DMA fault", message)
    assert scan_kernel_log(text) == ()


def test_a_boot_has_no_dma_fault() -> None:
    assert scan_dma_faults((LOGS / "boot.log").read_text()) == ()


def titles(name: str) -> list[tuple[str, str]]:
    return [(one.kind, one.title) for one in scan_kernel_log((REPORTS / name).read_text())]


def test_hung_task_in_io_wait() -> None:
    ((kind, title),) = titles("hung-task-in-io-wait.log")
    assert kind == "hung task"
    assert title == "INFO: task dmacheck:871 blocked in I/O wait for more than 122 seconds."


def test_hard_lockup_of_a_newer_kernel() -> None:
    assert titles("hard-lockup-new-form.log") == [
        ("hard lockup", "watchdog: CPU2: Watchdog detected hard LOCKUP on cpu 5")
    ]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 3", "hard lockup"),
        ("watchdog: Watchdog detected hard LOCKUP on cpu 3", "hard lockup"),
        ("watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 3", "hard lockup"),
        ("WARNING: HARDIRQ-READ-safe -> HARDIRQ-READ-unsafe lock order detected", "lockdep"),
        ("WARNING: bad contention detected!", "lockdep"),
        ("WARNING: held lock freed!", "lockdep"),
        ("WARNING: python3/71 still has locks held!", "lockdep"),
        ("WARNING: chain_key collision", "lockdep"),
    ],
)
def test_every_form_of_a_report_is_of_its_kind(message: str, kind: str) -> None:
    """Source: kernel/watchdog.c, kernel/locking/lockdep.c."""
    (report,) = scan_kernel_log(f"[    1.000000] {message}\n")
    assert report.kind == kind


def test_report_without_end_mark_ends_where_the_next_begins() -> None:
    reports = scan_kernel_log((REPORTS / "two-reports-no-end-mark.log").read_text())
    assert [one.kind for one in reports] == ["lockdep", "KASAN", "hung task"]
    assert "KASAN" not in reports[0].text
    assert "======" not in reports[0].text
    assert reports[1].text.splitlines()[0].endswith("=====")
    assert "blocked for more than" not in reports[1].text
    assert "Tainted" in reports[2].text


def test_a_mark_belongs_to_the_first_report_after_it() -> None:
    text = (
        "------------[ cut here ]------------\nrefcount_t: underflow; use-after-free.\n"
        "WARNING: lib/refcount.c:28 at f+0x1, CPU#1: a/1\nKernel panic - not syncing: kernel: panic_on_warn set ...\n"
        "---[ end Kernel panic - not syncing: kernel: panic_on_warn set ... ]---\n"
    )
    warning, panic = scan_kernel_log(text)
    assert (warning.kind, panic.kind) == ("WARNING", "panic")
    assert len(warning.text.splitlines()) == 3
    assert panic.text.splitlines()[0].startswith("Kernel panic")


def test_reports_of_two_cpus_at_once_are_two_whole_reports() -> None:
    """The oops of the first became a third report, and the end of the second cut off the first."""
    bug, warning = scan_kernel_log((REPORTS / "two-cpus-at-once.log").read_text())
    assert (bug.kind, warning.kind) == ("BUG", "WARNING")
    assert [one for one in bug.text.splitlines() if "T101" not in one] == []
    assert [one for one in warning.text.splitlines() if "T102" not in one] == []
    assert len(bug.text.splitlines()) == 6
    assert len(warning.text.splitlines()) == 4


def test_a_stall_has_the_stack_that_another_cpu_prints() -> None:
    (stall,) = scan_kernel_log((REPORTS / "stall-with-the-stack-of-another-cpu.log").read_text())
    assert stall.kind == "stall"
    assert "pfn_reader_next" in stall.text


def test_a_line_without_a_caller_belongs_to_the_line_above() -> None:
    text = (
        "[    1.000000][   T71] ------------[ cut here ]------------\n"
        "a program prints this on the console\n"
        "[    1.000001][   T71] WARNING: a.c:1 at f+0x1, CPU#0: a/71\n"
        "[    1.000002][   T71] ---[ end trace 0 ]---\n"
    )
    (report,) = scan_kernel_log(text)
    assert report.text == text.rstrip()


def test_a_long_text_of_a_warning_keeps_its_mark() -> None:
    told = "".join(f"line {number} of the text\n" for number in range(8))
    text = f"------------[ cut here ]------------\n{told}WARNING: a.c:1 at f+0x1, CPU#0: a/1\n---[ end trace 0 ]---"
    (report,) = scan_kernel_log(text)
    assert report.text == text


@pytest.mark.parametrize("kind", ["KASAN", "KCSAN", "KFENCE", "KMSAN"])
def test_a_report_of_a_checker_ends_at_its_second_rule(kind: str) -> None:
    """Lines of others followed, up to 80 in all."""
    rule = "=" * 66
    one = f"{rule}\nBUG: {kind}: something in f / g\nRead of size 8\n{rule}\n"
    reports = scan_kernel_log(f"{one}{one}usb 1-1: new device\nsystemd[1]: started\n")
    assert [report.text for report in reports] == [one.rstrip(), one.rstrip()]


@pytest.mark.parametrize("kind", ["KASAN", "KCSAN", "KFENCE", "KMSAN"])
def test_a_report_has_the_name_of_its_checker(kind: str) -> None:
    (report,) = scan_kernel_log(f"{'=' * 66}\nBUG: {kind}: something in f / g\n")
    assert report.kind == kind


def test_oops_belongs_to_the_bug_that_announces_it_and_to_no_other() -> None:
    announced = "BUG: kernel NULL pointer dereference, address: 0000000000000008\nOops: 0000 [#1]\n"
    assert [one.kind for one in scan_kernel_log(announced)] == ["BUG"]
    apart = "BUG: sleeping function called from invalid context at a.c:1\nOops: general protection fault: 0000 [#1]\n"
    assert [one.kind for one in scan_kernel_log(apart)] == ["BUG", "oops"]
    for exception in ("double fault, error_code: 0x0", "invalid or fatal FRED event; event type 3 vector 14"):
        fatal = f"PANIC: {exception}\nOops: double fault: 0000 [#1]\n---[ end trace 0 ]---\n"
        assert [one.kind for one in scan_kernel_log(fatal)] == ["panic"]
    bug = "BUG: invalid or fatal FRED event; event type 3 vector 14\nOops: Invalid or fatal FRED event: 0000 [#1]\n"
    assert [one.kind for one in scan_kernel_log(bug)] == ["BUG"]
    two = announced + "---[ end trace 0 ]---\nOops: invalid opcode: 0000 [#2]\n"
    assert [one.kind for one in scan_kernel_log(two)] == ["BUG", "oops"]


@pytest.mark.parametrize("line", (REPORTS / "die-lines-before-6.10.log").read_text().splitlines())
def test_die_names_the_exception_alone_before_6_10(line: str) -> None:
    (report,) = scan_kernel_log(line)
    assert report.kind == "oops"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('irq 16: nobody cared (try booting with the "irqpoll" option)', "interrupt"),
        ("irq event 16: bogus return value 7f", "interrupt"),
        ("PANIC: early exception 0x0e IP 10:ffffffff81000000 error 0 cr2 0xffff888000000000", "panic"),
        ("sysfs: cannot create duplicate filename '/class/vfio-dev/vfio0'", "WARNING"),
        ("smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000000042 ns for CPU#01 f+0x0", "stall"),
        ("sched: CPU 3 need_resched set for > 100000000 ns (25 ticks) without schedule", "stall"),
        ("traps: PANIC: double fault, error_code: 0x0", "panic"),
        ("bad: scheduling from the idle thread!", "BUG"),
        ("softirq: huh, entered softirq 3 NET_RX f with preempt_count 00000100, exited with 00000000?", "BUG"),
        ("schedule_timeout: wrong timeout value ffffffffffffffff", "WARNING"),
        ("unregister_netdevice: waiting for eth0 to become free. Usage count = 2", "leak"),
        ("iommufd: Time out waiting for iommufd object to become free", "leak"),
        ("Kernel BUG at iopt_area_split+0x1/0x2 [verbose debug info unavailable]", "BUG"),
        ("pagealloc: memory corruption", "BUG"),
        ("pagealloc: single bit error", "BUG"),
        ("Internal error: Oops - Undefined instruction: 0000000002000000 [#1] SMP", "oops"),
        ("Oops [#1]", "oops"),
        (
            "PANIC: invalid or fatal FRED event; event type 3 vector 14 error 0x0 aux 0x0 at 0010:ffffffff81000000",
            "panic",
        ),
        (
            "kobject: kobject (ffff888101020304): tried to init an initialized object, something is seriously wrong.",
            "BUG",
        ),
        (
            "kobject: kobject 'vfio0' (ffff888101020304): tried to add an uninitialized object, "
            "something is seriously wrong.",
            "BUG",
        ),
        ("rcu: __call_rcu_common(): Double-freed CB ffff888101020304->free_iova()!!!", "BUG"),
        ("nvme 0000:00:04.0: dma_pool_free prp list page, dma 0x0000000101020000 already free", "BUG"),
        ("nvme 0000:00:04.0: pool_check_block prp list page, ffff888101020304 (corrupted)", "BUG"),
        ("BUG at mas_validate_limits:7012 (1)", "BUG"),
        ("WARN at mas_validate_limits:7012 (1)", "WARNING"),
        ("WARNING: kernel stack frame pointer at ffffc90000000000 in a:1 has bad value 0000000000000000", "WARNING"),
        ("WARNING: at f+0x1/0x2, CPU#0: a/1", "WARNING"),
        ("unchecked MSR access error: RDMSR from 0x10 at rIP: 0xffffffff81000000 (f+0x1/0x2)", "WARNING"),
        ("iounmap: bad address ffffc90000000000", "WARNING"),
        ("Unexpected gfp: 0x2 (__GFP_HIGHMEM). Fixing up to gfp: 0xcc0 (GFP_KERNEL). Fix your code!", "WARNING"),
        ("mm/pgtable-generic.c:54: bad pmd ffff888101020304(8000000123456063)", "BUG"),
        ("kobject: kobject (ffff888101020304): must have a ktype to be initialized properly!", "BUG"),
        ("NEIGH: BUG, double timer add, state is 1", "BUG"),
        ("psi: task underflow! cpu=1 t=2 tasks=[0 0 0 0] clear=1 set=4", "BUG"),
        ("percpu_ref_put_many: percpu_ref_put_many(): percpu_ref underflow", "BUG"),
        ("neighbour: Destroying alive neighbour ffff888101020304", "WARNING"),
        ("vfio-pci 0000:00:10.0: Unbalanced pm_runtime_enable!", "WARNING"),
        ("vfio-pci 0000:00:10.0: Runtime PM usage count underflow!", "WARNING"),
        ("vfio-pci 0000:00:10.0: Attempt to enable runtime PM when it is blocked", "WARNING"),
        ("resource: Trying to free nonexistent resource <0x00000000fe000000-0x00000000fe003fff>", "WARNING"),
        ("sysctl duplicate entry: /vm/hugetlb_optimize_vmemmap", "WARNING"),
        ("e1000e 0000:00:13.0 enp0s19: hw csum failure", "WARNING"),
        ("veth0: hw csum failure", "WARNING"),
        ("e1000e 0000:00:13.0 enp0s19: NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5120 ms", "stall"),
        ("kmemleak: Freeing unknown object at 0xffff888101020304", "leak"),
        ("kmemleak: Cannot insert 0xffff888101020304 into the object search tree (overlaps existing)", "leak"),
        ("kmemleak: Found object by alias at 0xffff888101020304", "leak"),
        ("kmemleak: Scan area larger than object 0xffff888101020304", "leak"),
        ("No irq handler for 1.36", "interrupt"),
        ("unexpected IRQ trap at vector 2f", "interrupt"),
        ("Uhhuh. NMI received for unknown reason 2d on CPU 0.", "interrupt"),
        ("NMI: PCI system error (SERR) for reason a1 on CPU 0.", "interrupt"),
        ("NMI: IOCK error (debug interrupt?) for reason 61 on CPU 0.", "interrupt"),
        ("psi: inconsistent task state! task=71:python3 cpu=1 psi_flags=4 clear=0 set=4", "BUG"),
        ("SLUB kmalloc-64: 3 partial slabs counted but counter=4", "WARNING"),
        ("SLUB: kmalloc-64 3 slabs counted but counter=4", "WARNING"),
        (
            "e1000e 0000:00:13.0 enp0s19: NAPI poll function e1000e_poll+0x0/0x90 returned 65, exceeding its budget "
            "of 64.",
            "WARNING",
        ),
        ("neighbour: neighbour leakage", "leak"),
    ],
)
def test_reports_without_a_word_for_one(message: str, kind: str) -> None:
    """Source: kernel/irq/spurious.c, kernel/smp.c, kernel/softirq.c, kernel/sched/{debug,idle}.c, fs/sysfs/dir.c.

    Also kernel/time/sleep_timeout.c, net/core/dev.c, arch/x86/mm/{extable,ioremap}.c, drivers/iommu/iommufd/main.c,
    mm/{page_poison,dmapool,slab_common}.c, arch/x86/entry/entry_fred.c, arch/x86/kernel/unwind_frame.c, lib/kobject.c,
    kernel/rcu/tree.c, include/linux/maple_tree.h, arch/x86/include/asm/pgtable_64.h, net/core/neighbour.c,
    kernel/sched/psi.c, lib/percpu-refcount.c, drivers/base/power/runtime.c, kernel/resource.c, fs/proc/proc_sysctl.c,
    net/sched/sch_generic.c, mm/kmemleak.c, arch/x86/kernel/{irq,nmi}.c, and the die() of arm64 and RISC-V.
    """
    (report,) = scan_kernel_log(f"[    1.000000][   T71] {message}\n[    1.000001][   T71] Call Trace:\n")
    assert (report.kind, report.title) == (kind, message)


def test_slub_names_the_cache() -> None:
    (report,) = scan_kernel_log(f"{'=' * 77}\nBUG kmalloc-64 (Tainted: G    B): Redzone overwritten\n")
    assert report.kind == "BUG"


def test_faults_beyond_stopped_dma() -> None:
    faults = scan_dma_faults((REPORTS / "amd-invalidation-timeout.log").read_text())
    assert len(faults) == 4
    assert [one for one in faults if one.kind != "DMA fault"] == []
