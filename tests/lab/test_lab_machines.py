# SPDX-License-Identifier: MIT
"""Boot the machines of tests/machines, and run the tests of each machine there."""

import sys
from io import BytesIO
from pathlib import Path

import pytest

from iommufd_py.lab import kernel, vm
from iommufd_py.lab.cache import Variant
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.progress import Silent

ROOT = Path(__file__).parents[2]

IN_USE = Machine(
    devices=(
        "virtio-net-pci,addr=0x13.0",
        "VGA,addr=0x14.0",
        "bochs-display,addr=0x18.0",
        "pci-serial,addr=0x15.0",
        "pci-bridge,addr=0x16.0,chassis_nr=1",
        "nvme-subsys,id=functions",
        "nvme,addr=0x17.0,serial=functions,subsys=functions,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2",
    ),
)
SRIOV = Machine(
    devices=(
        "nvme-subsys,id=functions",
        "nvme,addr=0x17.0,serial=functions,subsys=functions,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2",
    )
)
NOIOMMU = Machine(
    iommu="none",
    devices=("edu,addr=0x1b.0,dma_mask=0xffffffffffffffff",),
    options=("vfio.enable_unsafe_noiommu_mode=1",),
)
HOT_RESET = Machine(
    devices=(
        "pcie-pci-bridge,id=alone,addr=0x1c",
        "e1000,bus=alone,addr=0x1",
        "pcie-pci-bridge,id=together,addr=0x1d",
        "edu,bus=together,addr=0x1",
        "edu,bus=together,addr=0x2",
    )
)
# The AMD and virtio IOMMUs of QEMU do not remap interrupts. iommufd refuses that unless a parameter allows it.
SAFE_ONLY = ("iommufd.allow_unsafe_interrupts=0",)


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("other_iommu", Machine(iommu="none")),
        ("other_iommu", Machine(iommu="amd")),
        ("other_iommu", Machine(iommu="virtio", options=SAFE_ONLY)),
        ("devices_in_use", IN_USE),
        ("sriov", SRIOV),
        ("noiommu", NOIOMMU),
        ("hot_reset", HOT_RESET),
    ],
    ids=["none", "amd", "virtio", "in-use", "sriov", "noiommu", "hot-reset"],
)
def test_machine(name: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    run_there(name, machine, monkeypatch)


def test_incoherent_machine_with_memory_above_4_gib_and_wbinvd(monkeypatch: pytest.MonkeyPatch) -> None:
    """`iommufd lab run` has no options for this machine. The other machines are jobs of ./scripts/test."""
    build_emulator(Silent())
    machine = Machine(incoherent=True, memory_bytes=6 << 30, options=("clearcpuid=ss",))
    run_there("incoherent", machine, monkeypatch, "patched")


def run_there(name: str, machine: Machine, monkeypatch: pytest.MonkeyPatch, variant: Variant = "stock") -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("IOMMUFD_TEST_MACHINE", name)
    out = BytesIO()
    # The tests of other machines there are skipped.
    command = [sys.executable, "-m", "pytest", "-q", "tests/machines"]
    configuration = Configuration(devices=name == "devices_in_use")
    image = kernel.image(variant, Silent(), configuration)
    label = configuration.label(variant)
    result = vm.run_in_vm(image, command, machine, kernel_name=label, timeout=1200, stdout=out)
    assert result.problem is None, result.log_excerpt()
    assert result.status == 0, out.getvalue().decode()
