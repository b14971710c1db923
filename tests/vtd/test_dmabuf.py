# SPDX-License-Identifier: MIT
"""BARs as dma-bufs: one device of the lab reaches the memory of another, until vfio-pci revokes the dma-buf."""

import errno
from collections.abc import Iterator

import pytest

from iommufd_py import (
    ArgumentValueError,
    DeviceError,
    DeviceFeature,
    FeatureOperation,
    Iommufd,
    IommufdError,
    PciCommand,
    RegionIndex,
    SkipError,
    VfioDevice,
    pci,
    vtd,
)
from iommufd_py.dma import FaultLog, open_engine
from iommufd_py.dma.checks import CaseOutcome
from iommufd_py.dma.harness import Harness
from iommufd_py.dma.peer import PeerCheck, peer_memory
from iommufd_py.host import pinned_bytes
from iommufd_py.lab.machine import NVME_DEVICE, PEER_DEVICE, TEST_DEVICES
from tests.conftest import IN_LAB
from tests.vtd.dma import await_fault_log
from tests.vtd.test_cli_info import validated

PAGE = 4096

pytestmark = pytest.mark.skipif(
    not IN_LAB, reason="takes devices of the lab: 'iommufd lab run -- pytest tests/vtd' does that"
)


@pytest.fixture(params=[TEST_DEVICES[0], NVME_DEVICE])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    with pci.vfio_bound(request.param), pci.vfio_bound(PEER_DEVICE), FaultLog() as log, Iommufd() as iommufd:
        device = VfioDevice(iommufd, request.param)
        ioas = iommufd.alloc_ioas()
        device.attach(ioas)
        yield Harness(open_engine(device, ioas), ioas, log)


@pytest.fixture
def peer(iommufd: Iommufd) -> Iterator[VfioDevice]:
    with pci.vfio_bound(PEER_DEVICE), VfioDevice(iommufd, PEER_DEVICE) as device:
        device.change_command(set_bits=PciCommand.MEMORY)
        yield device


def test_a_device_reaches_the_memory_of_another(harness: Harness) -> None:
    device = harness.engine.device
    assert isinstance(device, VfioDevice)
    await_fault_log()
    with VfioDevice(device.iommufd, PEER_DEVICE) as peer:
        results = {one.name: one for one in PeerCheck(harness, peer).run()}
    assert not [one for one in results.values() if one.verdict is CaseOutcome.FAIL]
    # An ivshmem has no reset.
    assert {name for name, one in results.items() if one.verdict is CaseOutcome.SKIP} <= {"peer reset", "peer read"}
    assert results["peer write"].verdict is CaseOutcome.PASS
    assert results["peer memory off"].faults, "the IOMMU did not say that it stopped the device"


def test_a_bar_is_mapped_and_not_pinned(iommufd: Iommufd, peer: VfioDevice) -> None:
    with pci.vfio_bound(TEST_DEVICES[0]), VfioDevice(iommufd, TEST_DEVICES[0]) as device:
        ioas = iommufd.alloc_ioas()
        device.attach(ioas)
        before = pinned_bytes()
        dmabuf = peer.export_dmabuf(RegionIndex.BAR2)
        assert dmabuf.length == peer.region(RegionIndex.BAR2).info.size
        mapping = ioas.map_file(dmabuf, 0x10_0000)
        assert pinned_bytes() == before
        assert vtd.leaf_sizes(device.bdf, mapping.iova, mapping.length) == {PAGE: mapping.length // PAGE}
        with pytest.raises(ArgumentValueError, match="has no address in this process"):
            _ = mapping.user_va
        mapping.close()
        assert vtd.leaf_sizes(device.bdf, 0x10_0000, dmabuf.length) == {}


def test_a_part_of_a_bar(iommufd: Iommufd, peer: VfioDevice) -> None:
    with pci.vfio_bound(TEST_DEVICES[0]), VfioDevice(iommufd, TEST_DEVICES[0]) as device:
        ioas = iommufd.alloc_ioas()
        device.attach(ioas)
        engine = open_engine(device, ioas)
        bar = peer.region(RegionIndex.BAR2)
        bar.write(0, bytes(4 * PAGE))
        # A part of a part: the second page of a dma-buf that starts at the BAR's second page.
        ioas.map_file(peer.export_dmabuf(bar.info.index, PAGE, 2 * PAGE), 0x10_0000, offset=PAGE, length=PAGE)
        content = engine.write(0x10_0000, 0x100)
        assert bar.read(0, 4 * PAGE) == bytes(2 * PAGE) + content + bytes(2 * PAGE - 0x100)


@pytest.mark.expect_kernel_log("DMAR: .* fault addr 0x100000")
def test_registers_are_reached_and_revoked_by_a_reset(iommufd: Iommufd) -> None:
    """BAR0 of an NVMe controller holds registers. DMA reads the same version as the CPU, until the reset."""
    with (
        pci.vfio_bound(TEST_DEVICES[0]),
        pci.vfio_bound(NVME_DEVICE),
        VfioDevice(iommufd, TEST_DEVICES[0]) as device,
        VfioDevice(iommufd, NVME_DEVICE) as nvme,
    ):
        ioas = iommufd.alloc_ioas()
        device.attach(ioas)
        engine = open_engine(device, ioas)
        nvme.change_command(set_bits=PciCommand.MEMORY)
        dmabuf = nvme.export_dmabuf(RegionIndex.BAR0, length=PAGE)
        version = nvme.region(RegionIndex.BAR0).read(8, 4)

        def is_read() -> bool:
            # A stopped read leaves the device's buffer unchanged, so write another content to it before.
            assert engine.fetch(engine.memory.iova + 0x800, 4) != version
            return engine.read(0x10_0008, version)

        with ioas.map_file(dmabuf, 0x10_0000):
            assert is_read()
            nvme.reset()
            assert not is_read(), "the reset left the BAR in reach"
        nvme.change_command(set_bits=PciCommand.MEMORY)
        with ioas.map_file(dmabuf, 0x10_0000):
            assert is_read()
            nvme.close()
            assert dmabuf.closed
            assert not is_read()


def test_while_memory_decoding_is_off_nothing_can_be_mapped(iommufd: Iommufd, peer: VfioDevice) -> None:
    ioas = iommufd.alloc_ioas()
    dmabuf = peer.export_dmabuf(RegionIndex.BAR2)
    mapping = ioas.map_file(dmabuf, 0x10_0000)
    peer.change_command(clear_bits=PciCommand.MEMORY)
    with pytest.raises(IommufdError, match="revoked") as caught:
        ioas.map_file(dmabuf, 0x20_0000)
    assert caught.value.errno == errno.ENODEV
    # The mapping is now a hole, which its owner must still unmap.
    mapping.close()
    peer.change_command(set_bits=PciCommand.MEMORY)
    ioas.map_file(dmabuf, 0x20_0000).close()


def test_a_region_that_cannot_be_exported_is_refused(peer: VfioDevice) -> None:
    with pytest.raises(DeviceError, match="choose one of the BARs"):
        peer.export_dmabuf(RegionIndex.CONFIG)
    with pytest.raises(DeviceError, match="choose one of the BARs"):
        peer.export_dmabuf(RegionIndex.BAR5)
    size = peer.region(RegionIndex.BAR2).info.size
    for offset, length in ((1, PAGE), (0, 1), (0, size + PAGE), (size, PAGE), (0, 0)):
        with pytest.raises(ArgumentValueError, match="whole pages"):
            peer.export_dmabuf(RegionIndex.BAR2, offset, length)
    assert peer.has_feature(DeviceFeature.DMA_BUF, FeatureOperation.GET)


def test_only_memory_is_written_to(iommufd: Iommufd) -> None:
    with pci.vfio_bound(TEST_DEVICES[1]), VfioDevice(iommufd, TEST_DEVICES[1]) as edu:
        edu.change_command(set_bits=PciCommand.MEMORY)
        with pytest.raises(SkipError, match="no prefetchable BAR"):
            peer_memory(edu)


def test_the_command_gives_both_devices_back(cli) -> None:
    before = [pci.pci_device(one).driver for one in (TEST_DEVICES[0], PEER_DEVICE)]
    await_fault_log()
    done = cli("dma", "check", "--device", TEST_DEVICES[0], "--bind", "--p2p", PEER_DEVICE, "--json", "--seed", "1")
    document = validated(done, "iommufd-dma-check-1")
    verdicts = {one["name"]: one["verdict"] for one in document["cases"]}
    assert verdicts["peer write"] == verdicts["peer memory off"] == "pass"
    assert "fail" not in verdicts.values()
    assert [pci.pci_device(one).driver for one in (TEST_DEVICES[0], PEER_DEVICE)] == before
