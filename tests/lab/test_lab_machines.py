# SPDX-License-Identifier: MIT
"""Boot the machines of tests/machines for which `iommufd lab run` has no options, and run their tests there.

The other machines are jobs of scripts/jobs.py.
"""

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
from tests.waiting import patience

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


def test_devices_of_all_kinds_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has drivers and file systems that no other test needs."""
    run_there("devices_in_use", IN_USE, monkeypatch)


def test_locked_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that boots in lockdown refuses tracing."""
    run_there("locked_down", Machine(options=("lockdown=confidentiality",)), monkeypatch)


def test_incoherent_machine_with_memory_above_4_gib_and_wbinvd(monkeypatch: pytest.MonkeyPatch) -> None:
    build_emulator(Silent())
    machine = Machine(incoherent=True, memory_bytes=6 << 30, options=("clearcpuid=ss",))
    run_there("incoherent", machine, monkeypatch, "patched")


def run_there(name: str, machine: Machine, monkeypatch: pytest.MonkeyPatch, variant: Variant = "stock") -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("IOMMUFD_TEST_MACHINE", name)
    out = BytesIO()
    # The tests of other machines there are skipped.
    command = [sys.executable, "-m", "pytest", "-q", "tests/machines"]
    configuration = Configuration(devices=name != "incoherent")
    image = kernel.image(variant, Silent(), configuration)
    label = configuration.label(variant)
    result = vm.run_in_vm(image, command, machine, kernel_name=label, timeout=patience(240), stdout=out)
    assert result.problem is None, result.log_excerpt()
    assert result.status == 0, out.getvalue().decode()
