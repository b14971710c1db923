# SPDX-License-Identifier: MIT
"""An Intel 82576 Ethernet controller, QEMU's ``igb``, as a DMA engine.

Source: Intel 82576EB Gigabit Ethernet Controller Datasheet, 7.1.5 (advanced receive descriptors), 8 (registers).
"""

import time
from typing import ClassVar

from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.ethernet import BUFFER_BYTES, EthernetEngine

_STATUS, _LINK = 0x0008, 1 << 1
_RECEIVE_QUEUE, _TRANSMIT_QUEUE = 0xC000, 0xE000
_SRRCTL = _RECEIVE_QUEUE + 0x0C
_ADVANCED_ONE_BUFFER = 1 << 25
_QUEUE_ON, _WRITE_EACH = 1 << 25, 1 << 16
_MAC_LOOPBACK = 1 << 6
# PHY control: negotiate, restart the negotiation, 1000 Mb/s, full duplex.
_PHY_NEGOTIATE = 0x1340
_LINK_SECONDS = 5.0
_POLL_SECONDS = 1e-2


class IgbEngine(EthernetEngine):
    """An Intel 82576 Ethernet controller. Its MAC loops the frames back; the PHY takes no part."""

    ids: ClassVar[frozenset[str]] = frozenset({"8086:10c9"})
    register_bytes: ClassVar[int] = 15 * PAGE_BYTES
    receive_queue: ClassVar[int] = _RECEIVE_QUEUE
    transmit_queue: ClassVar[int] = _TRANSMIT_QUEUE
    receive_control: ClassVar[int] = _QUEUE_ON | _WRITE_EACH
    transmit_control: ClassVar[int] = _QUEUE_ON
    loopback: ClassVar[int] = _MAC_LOOPBACK

    def _prepare(self) -> None:
        self._write(_SRRCTL, _ADVANCED_ONE_BUFFER | BUFFER_BYTES >> 10)
        # QEMU's igb receives nothing before its link is up, even in loopback. A reset takes the link down, and only a
        # negotiation, which takes 0.5 s, brings it up. Without a cable there is no link; then the first transfer shows
        # whether the loopback works.
        self._set_phy_control(_PHY_NEGOTIATE)
        deadline = time.monotonic() + _LINK_SECONDS
        while not self._read(_STATUS) & _LINK and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
