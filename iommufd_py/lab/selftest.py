# SPDX-License-Identifier: MIT
"""Run the kernel's own IOMMU and VFIO tests on the kernel that they belong to."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.lab import vm
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES, Machine, NativeMachine
from iommufd_py.lab.native import run_natively
from iommufd_py.lab.runs import RunResult
from iommufd_py.lab.tap import TapReport, parse_kunit, parse_tap

_IOMMU = ("iommufd", "iommufd_fail_nth")


@dataclass(frozen=True, slots=True)
class _VfioGuest:
    """Programs of the vfio selftests, and the machine with the devices that they run on."""

    programs: tuple[str, ...]
    devices: tuple[str, ...]
    machine: Machine


_VFIO = (
    _VfioGuest(
        (
            "vfio_iommufd_setup_test",
            "vfio_pci_device_test",
            "vfio_dma_mapping_test",
            "vfio_dma_mapping_mmio_test",
            "vfio_pci_device_init_perf_test",
        ),
        (TEST_DEVICES[0], NVME_DEVICE),
        # One case of each mode maps a page of 1 GiB.
        Machine(memory_bytes=4 << 30, options=("hugepagesz=1G", "hugepages=1")),
    ),
    # This program needs a device with a driver in libvfio. The lab's emulator has one, the DSA.
    _VfioGuest(
        ("vfio_pci_driver_test",),
        ("0000:00:14.0",),
        # The harness stops a case after 30 s, and an emulated CPU is slow. One case moves 32,768 times the longest
        # transfer, up to 250 GiB. All cases map 1 GiB: in small pages, or with a cache flush, it would take too long.
        Machine(
            incoherent=True,
            coherent=True,
            memory_bytes=4 << 30,
            devices=("dsa,addr=0x14,x-max-transfer-shift=16",),
            options=("vfio_pci.disable_denylist=1", "transparent_hugepage_shmem=always"),
        ),
    ),
    # This program creates a virtual function of its device. The device must permit that, and must have none yet.
    _VfioGuest(
        ("vfio_pci_sriov_uapi_test",),
        ("0000:00:17.0",),
        Machine(
            devices=(
                "nvme-subsys,id=functions",
                "nvme,addr=0x17.0,serial=functions,subsys=functions,"
                "sriov_max_vfs=1,sriov_vq_flexible=2,sriov_vi_flexible=1",
            ),
            options=("vfio_pci.enable_sriov=1",),
        ),
    ),
)
_MARK = "# program "
# An emulated CPU takes minutes for the programs.
_TIMEOUT_SECONDS = 900


def run_iommu_suite(image: Path, programs: Path, kernel_name: str) -> Mapping[str, TapReport]:
    """Boot *image*, run the iommu selftests in *programs*, and return the report of each.

    Raises:
        LabError: the guest died, or its kernel reported a warning or an oops.
    """
    # 6.12 cannot create a mock device while another IOMMU driver is active.
    commands = {name: f"{programs}/{name}" for name in _IOMMU}
    return _run(commands, "true", Machine(iommu="none"), image, kernel_name)


def run_vfio_suite(image: Path, programs: Path, kernel_name: str) -> Mapping[str, TapReport]:
    """Run the vfio selftests in *programs* on devices behind VT-d, and return the report of each program and device.

    *image* boots on three machines: the lab's, one with a Data Streaming Accelerator, and one with virtual functions.

    Raises:
        LabError: a guest died, its kernel reported a warning or an oops, a device could not be bound, or the emulator
            with the accelerator is not built yet.
    """
    reports: dict[str, TapReport] = {}
    for guest in _VFIO:
        commands = {
            f"{name} {device}": f"{programs}/{name} {device}"
            for device in guest.devices
            for name in guest.programs
            if (programs / name).exists()  # 6.12 has none of them, and each series since has more
        }
        if commands:
            reports |= _run(
                commands, f"iommufd device bind {' '.join(guest.devices)}", guest.machine, image, kernel_name
            )
    if not reports:
        raise LabError(f"the source of {kernel_name} has no vfio selftests; choose a newer series with --series")
    return reports


def run_kunit_suite(image: Path, kernel_name: str) -> Mapping[str, TapReport]:
    """Boot the User-Mode Linux *image*, which runs its KUnit tests, and return the report of each suite.

    Raises:
        LabError: the guest died, or its kernel reported a warning or an oops outside the tests.
    """
    machine = NativeMachine(options=("kunit.enable=1", "kunit.autorun=1"))
    result = run_natively(image, ["true"], machine, kernel_name=kernel_name)
    _refuse_problem(result)
    reports = parse_kunit(result.kernel_log.read_text(encoding="utf-8", errors="replace").splitlines())
    if not reports:
        raise LabError(f"the kernel ran no KUnit test; its log is {result.kernel_log}")
    return reports


def _run(
    commands: Mapping[str, str], first: str, machine: Machine, image: Path, kernel_name: str
) -> Mapping[str, TapReport]:
    """Run *commands*, by the name of their report, in one guest after the command *first*, which must succeed."""
    output, diagnostics = io.BytesIO(), io.BytesIO()
    # A program without a report tells its reason as an error.
    programs = (f"echo '{_MARK}{name}'; {command} 2>&1" for name, command in commands.items())
    script = "; ".join([f"{first} || exit", *programs, "true"])
    result = vm.run_in_vm(
        image,
        ["sh", "-c", script],
        machine,
        kernel_name=kernel_name,
        timeout=_TIMEOUT_SECONDS,
        stdout=output,
        stderr=diagnostics,
    )
    _refuse_problem(result)
    if result.status:
        raise LabError(f"'{first}' failed in the guest: {diagnostics.getvalue().decode(errors='replace').strip()}")
    _, *parts = output.getvalue().decode(errors="replace").split(_MARK)
    return {part.partition("\n")[0].strip(): parse_tap(part.splitlines()) for part in parts}


def _refuse_problem(result: RunResult) -> None:
    if result.problem is not None:
        raise LabError(f"{result.problem}\n{result.log_excerpt()}")
