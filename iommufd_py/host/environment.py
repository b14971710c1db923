# SPDX-License-Identifier: MIT
"""The description of this machine that every result carries."""

import gzip
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from iommufd_py.base.environment import Environment, Platform
from iommufd_py.base.shown import result_text
from iommufd_py.base.sysfs import attribute_text, chosen_word, cpuinfo_field, entries, kernel_text, limit_named
from iommufd_py.host.private import without_secrets_of_boot

NONCOHERENT_KNOB = Path("/sys/module/iommufd/parameters/test_noncoherent_hwpt")
"""The file of the test parameter that makes HWPTs non-coherent. Only a kernel with patch 0009 of the series has it."""

# Options of the kernel on which DMA mapping times depend.
_CONFIG = (
    "IOMMUFD_TEST",
    "FAULT_INJECTION",
    "KASAN",
    "PROVE_LOCKING",
    "DEBUG_PAGEALLOC",
    "DEBUG_LIST",
    "PREEMPT",
    "PREEMPT_VOLUNTARY",
    "PREEMPT_NONE",
    "HZ",
    "IOMMU_DEFAULT_DMA_STRICT",
    "IOMMU_DEFAULT_PASSTHROUGH",
    "INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON",
    "TRANSPARENT_HUGEPAGE",
    "NUMA",
    "CC_OPTIMIZE_FOR_PERFORMANCE",
)

_COMMAND_LINE = Path("/proc/cmdline")
_GZIP_MAGIC = b"\x1f\x8b"
_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def environment() -> Environment:
    """Describe the running machine.

    Its texts have printable characters only. A path and the kernel's command line can hold others, and with them nobody
    could read the result again.
    """
    found = _environment()
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    texts: dict[str, Any] = {name: result_text(value) for name, value in values.items() if isinstance(value, str)}
    return replace(found, **texts)


def _environment() -> Environment:
    cpuinfo = kernel_text(Path("/proc/cpuinfo"))
    return Environment(
        kernel_release=os.uname().release,
        kernel_variant=os.environ.get("IOMMUFD_LAB_KERNEL", ""),
        platform=os.environ.get("IOMMUFD_LAB_ACCEL") or _platform(cpuinfo),
        machine=os.environ.get("IOMMUFD_LAB_MACHINE", ""),
        cpu=os.environ.get("IOMMUFD_LAB_CPU") or cpuinfo_field(cpuinfo, "model name") or os.uname().machine,
        cpus=len(os.sched_getaffinity(0)),
        command_line=without_secrets_of_boot(kernel_text(_COMMAND_LINE).strip()),
        noncoherent_knob=knob == "Y" if (knob := attribute_text(NONCOHERENT_KNOB)) else None,
        config=_config(),
        microcode=cpuinfo_field(cpuinfo, "microcode") or None,
        thp=chosen_word(attribute_text(_THP)) or None,
        governor=attribute_text(_CPUFREQ / "scaling_governor") or None,
        turbo=_turbo(),
        numa_nodes=len(entries(Path("/sys/devices/system/node"), "node[0-9]*")) or 1,
        compiler=_compiler(kernel_text(Path("/proc/version"))),
    )


def _compiler(version: str) -> str:
    """Return the compiler that the text of /proc/version names: ``gcc (GCC) 15.3.0``; empty if it names none."""
    match = re.search(r"\(([^()]*(?:gcc|clang)[^,]*),", version)
    return match[1] if match else ""


def _platform(cpuinfo: str) -> str:
    # QEMU gives this name to its emulated CPU. Under KVM the name is that of a real CPU.
    if "QEMU TCG" in cpuinfo:
        return Platform.TCG
    if cpuinfo_field(cpuinfo, "vendor_id") == "User Mode Linux":
        return Platform.UML
    return Platform.VIRTUAL if "hypervisor" in cpuinfo_field(cpuinfo, "flags").split() else Platform.BARE_METAL


def _config() -> Mapping[str, str] | None:
    release = os.uname().release
    for place in ("/proc/config.gz", f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        try:
            with limit_named(Path(place)):
                return read_timing_options(Path(place).read_bytes())
        except (OSError, EOFError, ValueError, zlib.error):  # Not there, damaged, or another user's.
            continue
    return None


def read_timing_options(content: bytes) -> Mapping[str, str]:
    """Return the options on which DMA mapping times depend, from a kernel's configuration, packed or not.

    Raises:
        OSError, EOFError, zlib.error: the packed text is damaged.
        ValueError: the text has no option of a kernel.
    """
    text = gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    lines = text.decode(errors="replace").splitlines()
    values = {name: value for name, is_set, value in (line.partition("=") for line in lines) if is_set}
    if not any(name.startswith("CONFIG_") for name in values):
        raise ValueError("no configuration of a kernel")
    return {option: result_text(values.get(f"CONFIG_{option}", "n").strip()) for option in _CONFIG}


def _turbo() -> bool | None:
    boost = attribute_text(Path("/sys/devices/system/cpu/cpufreq/boost"))
    if boost:
        return boost == "1"
    no_turbo = attribute_text(Path("/sys/devices/system/cpu/intel_pstate/no_turbo"))
    return no_turbo == "0" if no_turbo else None


def pinned_bytes() -> int:
    """Return how much memory of this process is pinned: VmPin in /proc/self/status, which all accounting modes feed."""
    match = re.search(r"^VmPin:\s*(\d+) kB$", kernel_text(Path("/proc/self/status")), re.MULTILINE)
    return int(match[1]) << 10 if match else 0
