# SPDX-License-Identifier: MIT
"""The resources that a DMA engine releases after its device was removed. tests/vtd/test_dma.py tests real devices."""

from types import SimpleNamespace
from typing import Any

import pytest

from iommufd_py import ArgumentValueError, BackingError, DeviceError, DmaBuffer, SkipError
from iommufd_py.base.iova import IovaRange
from iommufd_py.dma.engine import DmaEngine, TransferLimits
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import IrqIndex


class Dependent(Resource):
    """A resource on top of others, as a mapping is."""

    def __init__(self, *stands_on: Resource) -> None:
        super().__init__(*stands_on)
        self._mark_open()

    def _release(self) -> None:
        pass


class Vanishing(Dependent):
    """A device that refuses every access from the moment that *gone* is set. The kernel answers so after a removal."""

    name = bdf = "0000:3b:00.0"
    gone = False

    def region(self, _: object) -> Any:
        self.registers = Dependent(self)
        return SimpleNamespace(mmap=lambda offset, length: self.registers)

    def enable_irqs(self, index: IrqIndex, count: int) -> Dependent:
        self.interrupts = Dependent(self)
        return self.interrupts

    def change_command(self, *, set_bits: int = 0, clear_bits: int = 0) -> None:
        if self.gone:
            raise DeviceError(f"{self.name} is gone")


class Engine(DmaEngine):
    """An engine that stops its device by one access."""

    interrupt_kind = IrqIndex.MSIX
    address_mask = (1 << 32) - 1

    def _start(self) -> None:
        self.device.change_command()

    def _stop(self) -> None:
        self.device.change_command()


def space() -> Any:
    return SimpleNamespace(
        iova_ranges=lambda: SimpleNamespace(ranges=(IovaRange(0, (1 << 32) - 1),)),
        dma_cc=lambda: True,
        map=lambda buffer, iova: Dependent(buffer),
    )


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_device_that_is_gone_leaves_nothing_open(interrupt: bool) -> None:
    device: Any = Vanishing()
    engine = Engine(device, space(), interrupt=interrupt)
    device.gone = True
    with pytest.raises(DeviceError, match="is gone"):
        engine.close()
    parts = [engine, engine.memory, engine._buffer, device.registers]
    assert [one.closed for one in parts] == [True] * len(parts)
    assert interrupt is False or device.interrupts.closed
    engine.close()  # nothing more to do, and no error
    device.close()


@pytest.mark.parametrize(("length", "iova"), [(0, 0), (12, 0), (68, 0), (8, 4), (8, (1 << 32) - 4)])
def test_an_impossible_transfer_is_a_wrong_argument(length: int, iova: int) -> None:
    with Vanishing() as device, Engine(device, space()) as engine:  # type: ignore[arg-type]
        limits = TransferLimits(64, 8, 8)
        engine._check(limits, 0, 64)
        with pytest.raises(ArgumentValueError, match=r"a multiple of 8, up to 64, and the IOVA|reaches IOVAs up to"):
            engine._check(limits, iova, length)


def test_a_view_that_somebody_holds_keeps_only_the_buffer_open() -> None:
    with Vanishing() as device:
        engine = Engine(device, space())  # type: ignore[arg-type]
        with engine._buffer.view, pytest.raises(BackingError, match="release the view first"):
            engine.close()
        assert isinstance(engine._buffer, DmaBuffer)
        assert device.registers.closed
        assert not engine._buffer.closed
        engine._buffer.close()


def test_an_engine_whose_dma_carries_no_pasid_says_so() -> None:
    device: Any = Vanishing()
    with pytest.raises(SkipError, match=r"the DMA of 0000:3b:00\.0 carries no PASID"):
        Engine(device, space(), pasid=1)
    with pytest.raises(ArgumentValueError, match="pasid"):
        Engine(device, space(), pasid=0)
    assert not device._dependents
