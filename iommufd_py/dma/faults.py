# SPDX-License-Identifier: MIT
"""The DMA that a VT-d unit stopped, as the kernel log tells of it."""

import re
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.host.kernel_log import scan_dma_faults
from iommufd_py.host.kmsg import KernelLog

_POLL_SECONDS = 0.01
# dmar_fault() spends three of the ten messages that it has in five seconds on each fault (include/linux/ratelimit.h).
_LIMIT_FAULTS, _LIMIT_SECONDS = 3, 5.5
# drivers/iommu/intel/dmar.c, dmar_fault_do_one().
_DMAR = re.compile(
    r"DMAR: ?\[DMA (?P<access>Read|Write) [^\]]*\] Request device \[(?:0x)?(?P<bdf>[0-9a-f:.]+)\] "
    r"fault addr 0x(?P<address>[0-9a-f]+) \[fault reason 0x(?P<code>[0-9a-f]+)\] (?P<reason>.*)"
)


@dataclass(frozen=True, slots=True)
class DmaFault:
    """One DMA request that the IOMMU did not let pass.

    Attributes:
        bdf: whose it was.
        access: what the device wanted.
        address: the IOVA, to its page.
        code: VT-d's fault reason.
        reason: the same in the kernel's words.
    """

    bdf: str
    access: Literal["read", "write"]
    address: int
    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.bdf} {self.access} of {self.address:#x}, reason {self.code:#04x}: {self.reason}"


def parse_dma_faults(text: str) -> tuple[DmaFault, ...]:
    """Return the DMA faults of VT-d units in a kernel log, in order."""
    matches = (_DMAR.match(one.title) for one in scan_dma_faults(text))
    return tuple(
        DmaFault(
            normalize_bdf(match["bdf"]),  # without the domain before Linux 7
            "read" if match["access"] == "Read" else "write",
            int(match["address"], 16),
            int(match["code"], 16),
            match["reason"],
        )
        for match in matches
        if match
    )


class FaultLog:
    """The faults from now on. The kernel writes three in five seconds; what is beyond is lost."""

    def __init__(self) -> None:
        self._seen: list[float] = []
        try:
            self._log: KernelLog | None = KernelLog()
        except PermissionError:
            self._log = None  # dmesg_restrict: then no fault can be shown, and what lies in memory still decides

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def take(self, bdf: str, timeout: float = 0.0) -> tuple[DmaFault, ...]:
        """Return the faults of a device since the last call, waiting up to *timeout* seconds for the first."""
        deadline = time.monotonic() + timeout
        while True:
            found = tuple(
                fault for fault in parse_dma_faults(self._log.text() if self._log else "") if fault.bdf == bdf
            )
            self._seen += [time.monotonic()] * len(found)
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(_POLL_SECONDS)

    def await_room(self) -> None:
        """Wait until the kernel will write the next fault down, as far as that depends on those seen here."""
        recent = [when for when in self._seen if when > time.monotonic() - _LIMIT_SECONDS]
        if len(recent) >= _LIMIT_FAULTS:
            time.sleep(recent[0] + _LIMIT_SECONDS - time.monotonic())
            self._seen.clear()
