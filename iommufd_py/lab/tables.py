# SPDX-License-Identifier: MIT
"""Check whether a kernel flushes its IOMMU tables, on the machine where page walks do not snoop the CPU caches.

If the kernel does not flush a changed table, the IOMMU reads the old one. It then stops DMA that must pass, or passes
DMA that it must stop. The check therefore boots the kernel and lets devices do DMA, with every byte checked.
"""

import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.host.kernel_log import scan_dma_faults
from iommufd_py.lab import vm
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.guest import BEGIN_MARK
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES, Machine
from iommufd_py.objects.buffer import DmaBuffer

MACHINES = {"legacy": Machine(incoherent=True), "scalable": Machine(incoherent=True, scalable=True)}
"""Machines with different tables: context entries that point to page tables, or to PASID directories and entries."""

_SOIL_BYTES = 384 << 20
_PROBES = (
    f"iommufd dma check --bind --device {TEST_DEVICES[0]} --interrupt --storm 40 --json",
    f"iommufd dma check --bind --device {NVME_DEVICE} --storm 100 --json",
)


@dataclass(frozen=True, slots=True)
class TablesResult:
    """Result of the check on one machine.

    Attributes:
        machine: a key of :data:`MACHINES`.
        problems: a sentence for each fault; empty for a kernel that flushes its tables.
        seconds: wall time of the guest.
    """

    machine: str
    problems: tuple[str, ...]
    seconds: float


def soil_memory() -> None:
    """Free pages whose contents look to an IOMMU like a table with all entries pointing to one page of memory.

    The CPU clears the page of a new table. Without a flush the IOMMU reads the former contents of that page.
    """
    with DmaBuffer(_SOIL_BYTES) as buffer:
        # An entry that is valid in every kind of table: present, readable and writable, with the address of the page.
        entry = (buffer.frames()[0] * PAGE_BYTES | 3).to_bytes(8, "little")
        table = entry * (PAGE_BYTES // len(entry))
        with buffer.view as view:
            for at in range(0, _SOIL_BYTES, PAGE_BYTES):
                view[at : at + PAGE_BYTES] = table
        buffer.flush()


def check_tables(image: Path, kernel_name: str) -> list[TablesResult]:
    """Boot *image* on each of :data:`MACHINES`, let devices do DMA there, and return the faults.

    Raises:
        LabError: a guest did not start, or died without a sign of a wrong table.
    """
    return [_check(name, machine, image, kernel_name) for name, machine in MACHINES.items()]


def _check(name: str, machine: Machine, image: Path, kernel_name: str) -> TablesResult:
    soil = f"{sys.executable} -P -c 'from iommufd_py.lab.tables import soil_memory; soil_memory()'"
    command = ["sh", "-c", "; ".join([soil, *_PROBES, "true"])]
    output, errors = io.BytesIO(), io.BytesIO()
    result = vm.run_in_vm(image, command, machine, kernel_name=kernel_name, stdout=output, stderr=errors)
    log = result.kernel_log.read_text(encoding="utf-8", errors="replace")
    # A guest that died reports fewer devices. That alone is no fault of its tables.
    expected = 0 if result.problem else len(_PROBES)
    problems = [*faults_of(log), *failures_of(output.getvalue().decode(errors="replace"), expected)]
    if result.problem is not None and not problems:
        raise LabError(f"{name}: {result.problem}")
    return TablesResult(name, tuple(problems), result.seconds)


def faults_of(log: str) -> list[str]:
    """Return the faults in a guest's kernel log that must not occur: DMA faults at boot, and interrupt faults."""
    boot, mark, rest = log.partition(BEGIN_MARK)
    faults = [one.title for one in scan_dma_faults(boot)]
    faults += [one.title for one in scan_dma_faults(rest) if "INTR-REMAP" in one.title] if mark else []
    return _counted([re.sub(r"(index|addr) 0x[0-9a-f]+", r"\1 ...", fault) for fault in faults])


def failures_of(output: str, expected: int) -> list[str]:
    """Return the failed cases in *output*, which holds *expected* documents of ``iommufd dma check --json``."""
    documents: list[dict[str, Any]] = []
    decoder, at = json.JSONDecoder(), output.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(output, at)
        except json.JSONDecodeError:
            break
        documents.append(document)
        at = output.find("{", end)
    failures = [
        f"{one['device']}, {case['name']}: {case['remark']}"
        for one in documents
        for case in one["cases"]
        if case["verdict"] == "fail"
    ]
    if len(documents) < expected:
        failures.append(f"{expected - len(documents)} of {expected} devices could not be used")
    return failures


def _counted(lines: list[str]) -> list[str]:
    return [line if (count := lines.count(line)) == 1 else f"{line} ({count} times)" for line in dict.fromkeys(lines)]
