# SPDX-License-Identifier: MIT
"""An Intel 82574L Ethernet controller, QEMU's ``e1000e``, as a DMA engine.

Source: Intel 82574 GbE Controller Family Datasheet, 7.1.4 (extended receive descriptors), 10.2 (registers).
"""

from typing import ClassVar

from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.ethernet import EthernetEngine

_RFCTL, _EXTENDED_DESCRIPTORS = 0x5008, 1 << 15
# Thresholds count descriptors, and each used descriptor is written at once. Bit 22 must be 1.
_GRANULARITY, _WRITE_EACH, _MUST_BE_ONE = 1 << 24, 1 << 16, 1 << 22
# PHY control: loopback, 1000 Mb/s, full duplex, no negotiation.
_PHY_LOOPBACK = 0x4140


class E1000eEngine(EthernetEngine):
    """An Intel 82574L Ethernet controller. Its PHY loops the frames back."""

    ids: ClassVar[frozenset[str]] = frozenset({"8086:10d3"})
    register_bytes: ClassVar[int] = 6 * PAGE_BYTES
    receive_queue: ClassVar[int] = 0x2800
    transmit_queue: ClassVar[int] = 0x3800
    receive_control: ClassVar[int] = _GRANULARITY | _WRITE_EACH
    transmit_control: ClassVar[int] = _GRANULARITY | _MUST_BE_ONE

    def _prepare(self) -> None:
        self._write(_RFCTL, self._read(_RFCTL) | _EXTENDED_DESCRIPTORS)
        self._set_phy_control(_PHY_LOOPBACK)
