# SPDX-License-Identifier: MIT
"""A VFIO device behind VT-d: binding, attaching, mapping, and the evidence for its coherency."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from iommufd_py import (
    Backing,
    Coherency,
    CoherencyError,
    DeviceError,
    DmaBuffer,
    HwInfoType,
    InvalidFieldError,
    Ioas,
    Iommufd,
    IommufdError,
    MigrationFeatures,
    VfioDevice,
    pci,
    vtd,
)
from iommufd_py.host import pinned_bytes
from iommufd_py.lab.machine import TEST_DEVICES
from iommufd_py.uapi.enums import DeviceFlags
from tests.conftest import IN_LAB
from tests.programs import IOMMUFD
from tests.waiting import DEFAULT_SIGNALS

MIB = 1 << 20
IOVA = 1 << 32
MACHINE = os.environ.get("IOMMUFD_LAB_MACHINE", "")


def test_hw_info_is_what_sysfs_says(device: VfioDevice) -> None:
    info = device.hw_info()
    assert info.type is HwInfoType.INTEL_VTD
    units = Path(f"/sys/bus/pci/devices/{device.bdf}/iommu/intel-iommu")
    assert info.vtd_registers == tuple(int((units / name).read_text(), 16) for name in ("cap", "ecap"))


def test_coherency_is_that_of_the_unit(device: VfioDevice, ioas: Ioas) -> None:
    evidence = device.alloc_hwpt(ioas).evidence
    assert evidence.dma_cc == evidence.snoop_control
    if IN_LAB:
        assert evidence.dma_cc == ("snoop-control=on" in MACHINE)


def test_the_other_coherency_is_refused(device: VfioDevice, ioas: Ioas) -> None:
    evidence = device.alloc_hwpt(ioas).evidence
    other = Coherency.NON_COHERENT if evidence.dma_cc else Coherency.COHERENT
    with pytest.raises(CoherencyError, match=rf"not {other}: VFIO_DMA_CC_IOMMU=\d, ECAP=0x[0-9a-f]+ \(SC=\d\); "):
        device.alloc_hwpt(ioas, coherency=other)


def test_mapping_narrows_and_pins(device: VfioDevice, ioas: Ioas) -> None:
    wide = ioas.iova_ranges()
    device.attach(device.alloc_hwpt(ioas))
    narrow = ioas.iova_ranges()
    assert (len(wide.ranges), wide.alignment) == (1, 1)
    assert narrow.alignment == 4096
    # The interrupt range of x86 cannot be mapped.
    assert not any(one.contains(0xFEE0_0000) for one in narrow.ranges)
    with DmaBuffer(2 * MIB) as buffer:
        before = pinned_bytes()
        with ioas.map(buffer, IOVA):
            assert pinned_bytes() == before + buffer.length
        assert pinned_bytes() == before
        with pytest.raises(InvalidFieldError, match="outside the IOAS's allowed ranges") as caught:
            ioas.map(buffer, 0xFEE0_0000)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("backing", "leaf"), [(Backing.ANON_4K, 4096), (Backing.THP, 2 * MIB), (Backing.HUGETLB_2M, 2 * MIB)]
)
def test_leaf_sizes(device: VfioDevice, ioas: Ioas, backing: Backing, leaf: int) -> None:
    device.attach(device.alloc_hwpt(ioas))
    if leaf == 4096:
        ioas.huge_pages = False
    with DmaBuffer(4 * MIB, backing) as buffer, ioas.map(buffer, IOVA):
        leaves = vtd.leaf_sizes(device.bdf, IOVA, buffer.length)
    if leaves is None:
        pytest.skip("needs CONFIG_INTEL_IOMMU_DEBUGFS and debugfs mounted, as the lab's kernels have")
    assert leaves == {leaf: buffer.length // leaf}


def test_unattached_hwpt_is_filled_too(device: VfioDevice, ioas: Ioas) -> None:
    with DmaBuffer(MIB) as buffer, ioas.map(buffer, IOVA):
        before = pinned_bytes()
        with device.alloc_hwpt(ioas):
            assert pinned_bytes() == before + MIB
        assert pinned_bytes() == before


def test_attach_replace_detach(device: VfioDevice, iommufd: Iommufd) -> None:
    first, second = iommufd.alloc_ioas(), iommufd.alloc_ioas()
    device.attach(first)
    device.attach(device.alloc_hwpt(second))
    first.close()
    device.detach()
    second.close()


def test_attach_to_nothing(device: VfioDevice) -> None:
    with pytest.raises(IommufdError, match="ENOENT: no IOAS or HWPT with this id") as caught:
        device._attach(4242, None)
    assert caught.value.errno == errno.ENOENT


def test_second_bind_is_refused(device: VfioDevice) -> None:
    with Iommufd() as other, pytest.raises((IommufdError, DeviceError), match=r"VFIO_DEVICE_BIND_IOMMUFD|in use"):
        VfioDevice(other, device.bdf)


def test_closing_the_iommufd_closes_all(bdf: str) -> None:
    before = pinned_bytes()
    for _ in range(3):  # a device that stayed bound could not be bound again
        with Iommufd() as iommufd:
            device = VfioDevice(iommufd, bdf)
            ioas = iommufd.alloc_ioas()
            device.attach(device.alloc_hwpt(ioas))
            ioas.map(DmaBuffer(MIB), IOVA)
        assert device.closed
        assert pinned_bytes() == before


def test_reset(device: VfioDevice) -> None:
    if device.info().flags & DeviceFlags.RESET:
        device.reset()
    else:
        with pytest.raises(DeviceError, match="cannot be reset through VFIO"):
            device.reset()


def test_vfio_pci_migrates_no_device(device: VfioDevice) -> None:
    assert device.migration_features() == MigrationFeatures(0)
    with pytest.raises(DeviceError, match=rf"^{device.bdf} cannot be migrated: its driver has no migration,"):
        device.migration()


def test_device_that_is_not_on_vfio(iommufd: Iommufd) -> None:
    others = [one for one in pci.list_devices() if one.driver != "vfio-pci"]
    assert others
    for one in others:
        was = f"bound to {one.driver or 'no driver'}"
        with pytest.raises(
            DeviceError, match=f"{one.bdf} is {was} instead of vfio-pci: 'iommufd device bind {one.bdf}'"
        ):
            VfioDevice(iommufd, one.bdf)
    assert [one for one in pci.list_devices() if one.driver != "vfio-pci"] == others


@pytest.mark.skipif(not IN_LAB, reason="takes the lab's second device; 'iommufd lab run -- pytest tests/vtd' does that")
class TestBinding:
    SPARE = TEST_DEVICES[1]

    def state(self) -> tuple[str, str]:
        override = Path(f"/sys/bus/pci/devices/{self.SPARE}/driver_override").read_text().strip()
        return pci.pci_device(self.SPARE).driver, override

    def test_bind_and_restore(self) -> None:
        before = self.state()
        with pci.vfio_bound(self.SPARE):
            assert pci.pci_device(self.SPARE).driver == "vfio-pci"
            assert pci.pci_device(self.SPARE).cdev
            with pci.vfio_bound(self.SPARE):
                pass
            assert (
                pci.pci_device(self.SPARE).driver == "vfio-pci"
            )  # The device was on vfio-pci before, so it stays there.
        assert self.state() == before

    def test_restored_after_an_error(self) -> None:
        before = self.state()
        with pytest.raises(RuntimeError, match="in the middle"), pci.vfio_bound(self.SPARE):
            raise RuntimeError("in the middle")
        assert self.state() == before

    def test_restored_by_a_later_process(self, cli) -> None:
        before = self.state()
        assert cli("device", "bind", self.SPARE).returncode == 0
        assert pci.pci_device(self.SPARE).driver == "vfio-pci"
        assert cli("device", "restore", self.SPARE).returncode == 0
        assert self.state() == before

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_given_back_by_a_benchmark_that_is_killed(self, cli, number: signal.Signals) -> None:
        before = self.state()
        command = [*DEFAULT_SIGNALS, IOMMUFD, "bench", "run"]
        command += ["--device", self.SPARE, "--bind"]
        with subprocess.Popen([*command, "--size", "2M", "--values", "1000000"], stderr=subprocess.DEVNULL) as bench:
            while pci.pci_device(self.SPARE).driver != "vfio-pci":
                assert bench.poll() is None
            bench.send_signal(number)
        assert bench.returncode != 0
        if number == signal.SIGKILL:  # SIGKILL cannot be caught. A later process gives the device back.
            assert pci.pci_device(self.SPARE).driver == "vfio-pci"
            assert cli("device", "restore", self.SPARE).returncode == 0
        assert self.state() == before
