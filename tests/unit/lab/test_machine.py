# SPDX-License-Identifier: MIT
"""The options of QEMU and of the kernel for each machine of the lab, and machines that cannot boot. Needs no guest."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.base.errors import SkipError
from iommufd_py.lab.cache import kernels
from iommufd_py.lab.errors import LabError, NoDeviceError
from iommufd_py.lab.machine import NVME_DEVICE, PEER_DEVICE, TEST_DEVICES, IommuModel, Machine, NativeMachine
from iommufd_py.lab.qemu import compose, require_qemu

machines = st.builds(
    Machine,
    coherent=st.booleans(),
    scalable=st.booleans(),
    memory_bytes=st.integers(1 << 30, 64 << 30),
    cpus=st.integers(1, 64),
    hugepages=st.integers(0, 256),
    accel=st.sampled_from(["kvm", "tcg"]),
)


def iommu_of(machine: Machine) -> dict[str, str]:
    (iommu,) = [arg for arg in machine.qemu_args() if arg.startswith("intel-iommu")]
    return dict(option.split("=") for option in iommu.split(",")[1:])


@given(machines)
def test_every_machine_has_a_usable_iommu_and_both_test_devices(machine: Machine) -> None:
    iommu = iommu_of(machine)
    # Without these options the guest has no interrupt remapping, or VFIO refuses the device.
    assert iommu["intremap"] == iommu["caching-mode"] == "on"
    assert "q35,kernel-irqchip=split" in machine.qemu_args()
    assert sum(arg.startswith("edu") for arg in machine.qemu_args()) == len(TEST_DEVICES)
    assert any(arg.startswith("intel_iommu=on") for arg in machine.kernel_args())


@given(machines)
def test_coherency_is_one_option_and_nothing_else(machine: Machine) -> None:
    iommu = iommu_of(machine)
    assert iommu["snoop-control"] == ("on" if machine.coherent else "off")
    assert f"snoop-control={iommu['snoop-control']}" in str(machine)


@pytest.mark.slow
@given(machines)
def test_emulated_cpus_take_turns(machine: Machine) -> None:
    assert ("tcg,thread=single" in machine.qemu_args()) == (machine.accel == "tcg")


def test_scalable_mode_is_asked_for_on_both_sides() -> None:
    legacy, scalable = Machine(), Machine(scalable=True)
    assert "x-scalable-mode" not in iommu_of(legacy)
    assert iommu_of(scalable)["x-scalable-mode"] == "on"
    assert "intel_iommu=on,sm_on" in scalable.kernel_args()
    assert "intel_iommu=on,sm_on" not in legacy.kernel_args()
    assert str(legacy) != str(scalable)


def test_the_test_devices_have_their_addresses() -> None:
    assert [arg for arg in Machine().qemu_args() if arg.startswith("edu")] == ["edu,addr=0x10.0", "edu,addr=0x11.0"]
    assert TEST_DEVICES == ("0000:00:10.0", "0000:00:11.0")
    assert [arg for arg in Machine().qemu_args() if arg.startswith("nvme,addr=0x12.0,")]
    assert NVME_DEVICE == "0000:00:12.0"
    assert "ivshmem-plain,addr=0x1a.0,memdev=peer" in Machine().qemu_args()
    assert "ivshmem" not in " ".join(Machine(incoherent=True).qemu_args())
    assert PEER_DEVICE == "0000:00:1a.0"


@pytest.mark.parametrize(
    ("iommu", "device"), [("amd", "amd-iommu,intremap=on"), ("virtio", "virtio-iommu-pci"), ("none", None)]
)
def test_other_iommus_stand_in_place_of_vtd(iommu: IommuModel, device: str | None) -> None:
    machine = Machine(iommu=iommu)
    assert [arg for arg in machine.qemu_args() if arg.partition("-")[2].startswith("iommu")] == (
        [device] if device else []
    )
    assert not any("intel_iommu" in arg for arg in machine.kernel_args())
    assert "intel" not in str(machine)
    # QEMU's AMD and virtio IOMMUs do not remap interrupts.
    allowed = [arg for arg in machine.kernel_args() if arg.endswith("allow_unsafe_interrupts=1")]
    assert len(allowed) == (2 if device else 0)


@pytest.mark.parametrize("what", [{"coherent": True}, {"scalable": True}, {"incoherent": True}])
def test_options_of_vtd_are_refused_for_other_iommus(what: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="VT-d"):
        Machine(iommu="amd", **what)


def test_further_devices_and_options_are_added() -> None:
    assert Machine(options=("iommu.strict=1",)).kernel_args()[-1] == "iommu.strict=1"
    assert NativeMachine(options=("iommu.strict=1",)).kernel_args()[-1] == "iommu.strict=1"
    assert Machine(devices=("VGA,addr=0x14.0",)).qemu_args()[-2:] == ("-device", "VGA,addr=0x14.0")


@pytest.mark.parametrize(
    ("field", "value"),
    [("cpus", 0), ("memory_bytes", 512 << 20), ("devices", ("",)), ("devices", ("edu", "driver=,addr=0x14"))],
)
def test_a_machine_that_cannot_boot_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"at least one CPU|too little|needs a name"):
        Machine(**{field: value})


def test_the_native_machine_has_the_memory_that_was_asked_for() -> None:
    assert "mem=3072M" in NativeMachine(memory_bytes=3 << 30).kernel_args()
    with pytest.raises(ValueError, match="64 MiB is too little memory"):
        NativeMachine(memory_bytes=64 << 20)


def test_the_native_machine_is_labelled() -> None:
    assert str(NativeMachine()) == "native CPU and caches, mock IOMMU"


def test_a_device_that_this_qemu_lacks_cannot_be_observed_here() -> None:
    with pytest.raises(NoDeviceError, match="this QEMU has no device 'no-such-nic'") as caught:
        compose(
            Path("/dev/null"),
            Machine(devices=("e1000,addr=0x13", "driver=no-such-nic,addr=0x14")),
            [],
            [],
            initramfs=Path("unused"),
        )
    assert isinstance(caught.value, SkipError)  # exit status 4


def test_a_device_of_the_emulator_needs_the_incoherent_machine() -> None:
    with pytest.raises(NoDeviceError, match="only the lab's emulator has the device 'dsa'"):
        require_qemu(Machine(devices=("dsa,addr=0x14",)))
    require_qemu(Machine(devices=("dsa,addr=0x14",), incoherent=True))


def test_the_scalable_machine_of_the_emulator_has_pasids() -> None:
    assert iommu_of(Machine(scalable=True, incoherent=True))["x-pasid-mode"] == "on"
    assert "x-pasid-mode" not in iommu_of(Machine(scalable=True))
    assert "x-pasid-mode" not in iommu_of(Machine(incoherent=True))


def test_code_of_the_current_directory_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab runs the command line from compose(), as root if root uses the lab."""
    planted = tmp_path / "virtme/commands"
    planted.mkdir(parents=True)
    for file in (planted.parent / "__init__.py", planted / "__init__.py"):
        file.touch()
    (planted / "run.py").write_text("print('echo planted')")
    monkeypatch.chdir(tmp_path)
    image = next((kernel.image for kernel in kernels() if kernel.recipe.arch == "x86_64"), Path("/dev/null"))
    try:
        command = compose(image, Machine(), [], [], initramfs=tmp_path / "initramfs")
    except LabError as refusal:  # without a kernel, virtme-ng refuses the image
        assert "planted" not in str(refusal)
    else:
        assert command[:2] != ["echo", "planted"]
