# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.host.kernel_log import scan_dma_faults, scan_kernel_log

LOGS = Path(__file__).parent / "kernel_logs"


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
def test_what_a_debug_kernel_has_to_say_is_a_report(message: str) -> None:
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
    ],
)
def test_words_further_right_are_no_report(message: str) -> None:
    assert scan_kernel_log(f"[    1.000000] {message}\n") == ()


@pytest.mark.parametrize(
    "prefix", ["", "[    1.234567] ", "[   12.345678] [   T71] ", "[    1.2] [ C0] ", "<4>[    1.000000] "]
)
def test_every_prefix_of_printk_is_understood(prefix: str) -> None:
    (splat,) = scan_kernel_log(f"{prefix}quiet\r\n{prefix}WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1\r\n")
    assert splat.title == "WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1"


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
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
    ],
)
def test_dma_faults(message: str) -> None:
    text = f"[    1.000000] DMAR: DRHD: handling fault status reg 2\n[    1.000001] {message}\n"
    (fault,) = scan_dma_faults(text)
    assert (fault.kind, fault.title) == ("DMA fault", message)
    assert scan_kernel_log(text) == ()


def test_a_boot_has_no_dma_fault() -> None:
    assert scan_dma_faults((LOGS / "boot.log").read_text()) == ()
