# SPDX-License-Identifier: MIT
"""The words of `iommufd lab selftest` if a program cannot run. The jobs selftest* run the programs."""

from dataclasses import replace
from pathlib import Path

import pytest

from iommufd_py.lab import selftest
from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.kernel import image
from iommufd_py.lab.machine import NVME_DEVICE
from iommufd_py.lab.progress import Silent


@pytest.fixture
def silent_program(tmp_path: Path) -> Path:
    """The directory of a program that has no driver for any device."""
    program = tmp_path / "vfio_pci_driver_test"
    program.write_text('#!/bin/sh\necho "No driver found for device $1" >&2\nexit 4\n')
    program.chmod(0o755)
    return tmp_path


def test_a_device_that_vfio_pci_refuses_is_named(silent_program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_emulator(Silent())
    with_dsa = selftest._VFIO[1]
    monkeypatch.setattr(selftest, "_VFIO", [replace(with_dsa, machine=replace(with_dsa.machine, options=()))])
    with pytest.raises(LabError, match=r"'iommufd device bind 0000:00:14\.0' failed in the guest: .*denylist"):
        selftest.run_vfio_suite(image("stock", Silent()), silent_program, "stock")


def test_a_program_without_a_case_tells_its_reason(silent_program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_nvme = replace(selftest._VFIO[0], programs=("vfio_pci_driver_test",), devices=(NVME_DEVICE,))
    monkeypatch.setattr(selftest, "_VFIO", [on_nvme])
    reports = selftest.run_vfio_suite(image("stock", Silent()), silent_program, "stock")
    report = reports[f"vfio_pci_driver_test {NVME_DEVICE}"]
    assert not report.good
    assert report.remark == f"No driver found for device {NVME_DEVICE}"


def test_a_source_without_vfio_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"the source of 6\.12 has no vfio selftests"):
        selftest.run_vfio_suite(tmp_path, tmp_path, "6.12")
