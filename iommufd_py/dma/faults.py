# SPDX-License-Identifier: MIT
"""DMA faults of VT-d units: the requests that they stopped, read from the kernel log."""

import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.host.kernel_log import scan_dma_faults
from iommufd_py.host.kmsg import KernelLog

_POLL_SECONDS = 0.01
# dmar_fault() asks its rate limit three times for each fault. The limit says yes ten times in five seconds
# (include/linux/ratelimit.h).
_LIMIT_FAULTS, _LIMIT_SECONDS = 3, 5.5
# drivers/iommu/intel/dmar.c, dmar_fault_do_one().
_DMAR = re.compile(
    r"DMAR: ?\[DMA (?P<access>Read|Write) [^\]]*\] Request device \[(?:0x)?(?P<bdf>[0-9a-f:.]+)\] "
    r"fault addr 0x(?P<address>[0-9a-f]+) \[fault reason 0x(?P<code>[0-9a-f]+)\] (?P<reason>.*)"
)


@dataclass(frozen=True, slots=True)
class DmaFault:
    """One DMA request that the IOMMU stopped.

    Attributes:
        bdf: address of the device.
        access: kind of the request.
        address: IOVA of the page.
        code: VT-d's fault reason.
        reason: the kernel's text for *code*.
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
            normalize_bdf(match["bdf"]),  # kernels before 7.0 print no PCI segment
            "read" if match["access"] == "Read" else "write",
            int(match["address"], 16),
            int(match["code"], 16),
            match["reason"],
        )
        for match in matches
        if match
    )


class FaultLog:
    """The DMA faults after this object is made. The kernel logs three faults in five seconds, and drops the others."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_LIMIT_FAULTS)
        try:
            self._log: KernelLog | None = KernelLog()
        except OSError:  # dmesg_restrict forbids it, or a container has no /dev/kmsg.
            self._log = None  # The checks of memory do not need the faults.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def readable(self) -> bool:
        """Whether this process may read the kernel log. If not, no fault is seen."""
        return self._log is not None

    def take(self, bdf: str, timeout: float = 0.0) -> tuple[DmaFault, ...]:
        """Return the faults of a device since the last call; wait for the first one up to *timeout* seconds."""
        deadline = time.monotonic() + timeout
        while True:
            logged = parse_dma_faults(self._log.text() if self._log else "")
            self._seen.extend([time.monotonic()] * len(logged))
            found = tuple(fault for fault in logged if fault.bdf == bdf)
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(_POLL_SECONDS)

    def await_room(self) -> None:
        """Wait until the rate limit lets the kernel log the next fault. Faults before this object are not counted."""
        time.sleep(max(room_time(self._seen) - time.monotonic(), 0.0))


def room_time(seen: Sequence[float]) -> float:
    """Return the time from which the kernel logs a fault for certain. *seen* has those of the last faults, in order.

    All times are those of time.monotonic().
    """
    return seen[-_LIMIT_FAULTS] + _LIMIT_SECONDS if len(seen) >= _LIMIT_FAULTS else 0.0
