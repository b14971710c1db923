# SPDX-License-Identifier: MIT
"""The machines as data: IOMMU, devices, memory and CPUs. This module starts nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iommufd_py.base.shown import shown
from iommufd_py.base.units import format_bytes

Accel = Literal["kvm", "tcg"]
IommuModel = Literal["vtd", "amd", "virtio", "none"]

TEST_DEVICES = ("0000:00:10.0", "0000:00:11.0")
"""PCI addresses of the two ``edu`` devices (1234:11e8), each in an IOMMU group of its own.

``edu`` is QEMU's educational device: one BAR, one interrupt and a DMA engine that reads and writes 4 KiB at a time.
Source: docs/specs/edu.rst of QEMU.
"""

NVME_DEVICE = "0000:00:12.0"
"""PCI address of an NVMe controller on the driver ``nvme``. Its namespace is empty, and is lost with the guest."""

PEER_DEVICE = "0000:00:1a.0"
"""PCI address of an ``ivshmem-plain`` (1af4:1110), whose BAR2 is memory: a target of the DMA of other devices.

Source: docs/specs/ivshmem-spec.rst of QEMU.
"""

_PEER_BYTES = 1 << 20

# Name of the block device of the NVMe namespace. scratch_args() defines it, and the machine's arguments refer to it.
_SCRATCH = "scratch"

# Arguments for every kernel of the lab.
_KERNEL_ARGS = (
    # Print all levels: lockdep reports at debug level that it has turned itself off.
    "loglevel=8",
    "printk.time=1",
    "printk.devkmsg=on",
    # After an oops no measurement and no assertion is valid, so the run ends.
    "oops=panic",
    # Report pages that are freed while an IOMMU maps them. Kernels without debug.config ignore this word.
    "iommu.debug_pagealloc=1",
)

# Of the 2047 characters that an x86 kernel reads, the lab and virtme-ng use about half.
_MOST_OPTION_CHARACTERS = 1000

_OTHER_IOMMUS: dict[IommuModel, str] = {"amd": "amd-iommu,intremap=on", "virtio": "virtio-iommu-pci"}

# QEMU's AMD and virtio IOMMUs remap no interrupts. iommufd and type1 refuse such an IOMMU without these words.
_UNSAFE_INTERRUPTS = ("iommufd.allow_unsafe_interrupts=1", "vfio_iommu_type1.allow_unsafe_interrupts=1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A q35 machine whose PCI devices are behind an emulated IOMMU, by default Intel VT-d.

    Attributes:
        iommu: model of the IOMMU. The next three attributes concern VT-d only.
        coherent: ECAP.SC, the ability of the IOMMU to force DMA to snoop the CPU caches. Without it every domain is
            non-coherent. ECAP.C, which tells whether the page walk snoops, is 0 in both cases.
        scalable: VT-d scalable mode. With *incoherent* the IOMMU has PASIDs, too.
        incoherent: model the CPU caches. DMA of the test devices snoops them only if the domain enforces it. Page walks
            of the IOMMU never snoop. This needs the lab's own emulator and an emulated CPU.
        evict: number of cache flushes after which a random line, used lately, also leaves the caches; 0 for never.
        seed: seed of the choice of these lines.
        memory_bytes: memory of the guest.
        cpus: virtual CPUs.
        hugepages: number of 2 MiB pages reserved at boot. The kernel's iommufd selftests need 128.
        accel: ``kvm``, or ``tcg`` for an emulated CPU.
        devices: further devices, as arguments of QEMU's ``-device``.
        options: further words of the kernel's command line.
    """

    iommu: IommuModel = "vtd"
    coherent: bool = False
    scalable: bool = False
    incoherent: bool = False
    evict: int = 0
    seed: int = 0
    memory_bytes: int = 2 << 30
    cpus: int = 2
    hugepages: int = 192
    accel: Accel = "tcg"
    devices: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise ValueError(f"a machine needs at least one CPU, not {self.cpus}")
        if self.iommu != "vtd" and (self.coherent or self.scalable):
            raise ValueError("snoop control and scalable mode are properties of VT-d: use --iommu vtd")
        if self.incoherent and self.iommu != "vtd":
            raise ValueError("only VT-d has a machine whose CPU caches DMA does not snoop")
        if not all(device.partition(",")[0].removeprefix("driver=").strip() for device in self.devices):
            raise ValueError("a further device needs a name, as in QEMU's -device: for example e1000e,addr=0x1f")
        if self.evict and not self.incoherent:
            raise ValueError("only the incoherent machine has CPU caches that lines can leave")
        for word in self.options:
            if not word.isascii() or not word.isprintable():
                raise ValueError(f"{shown(word)} is no word of a kernel's command line: use visible ASCII characters")
        if len(" ".join(self.options)) > _MOST_OPTION_CHARACTERS:
            raise ValueError(
                f"the further words of the kernel's command line have {len(' '.join(self.options))} characters: use up "
                f"to {_MOST_OPTION_CHARACTERS}, because the kernel cuts off a longer line"
            )
        if self.memory_bytes < (self.hugepages << 21) + (512 << 20):
            raise ValueError(
                f"{format_bytes(self.memory_bytes)} is too little memory: {self.hugepages} huge pages of 2 MiB are "
                "reserved, and the rest of the guest needs 512 MiB"
            )

    def __str__(self) -> str:
        if self.iommu != "vtd":
            return f"q35 {self.iommu}-iommu" if self.iommu != "none" else "q35 without IOMMU"
        mode = " x-scalable-mode=on" if self.scalable else ""
        if self.incoherent:
            mode += " with CPU caches that DMA does not snoop"
            mode += f" (evict={self.evict}, seed={self.seed})" if self.evict else ""
        return f"q35 intel-iommu snoop-control={'on' if self.coherent else 'off'}{mode}"

    def qemu_args(self) -> tuple[str, ...]:
        """Arguments of a QEMU command line for the IOMMU and the test devices.

        Interrupt remapping needs the split irqchip. In caching mode the guest tells the IOMMU about every new mapping.
        Real hardware is programmed in the same way through a hypervisor, and all machines here have the same cost.
        :func:`scratch_args` adds the file behind the NVMe namespace.
        """
        args = ["-machine", "q35,kernel-irqchip=split"]
        if self.accel == "tcg":
            # A thread for each CPU would be faster. But if one CPU changes the machine's memory map (by a PCI command
            # register or an IOMMU domain) while another one accesses a device, QEMU 7.2 loses about one access in a
            # thousand changes. A guest hangs if the lost access was to an interrupt controller or a disk.
            args += ["-accel", "tcg,thread=single"]
            # With fast string operations the kernel clears and copies memory by "rep stosb" and "rep movsb". An
            # emulated CPU executes them byte by byte, and words take an eighth of the steps.
            args += ["-cpu", "max,-erms"]
        for device in self._iommu_devices():
            args += ["-device", device]
        # The lab's own emulator can skip the wait of 0.1 s in each transfer.
        edu, nvme = (",x-no-snoop=on,x-dma-ms=1", ",x-no-snoop=on") if self.incoherent else ("", "")
        if self.incoherent:
            args += ["-device", f"cpu-caches,evict={self.evict},seed={self.seed}"]
        for address in TEST_DEVICES:
            args += ["-device", f"edu,addr={_slot(address)}{edu}"]
        args += ["-device", f"nvme,addr={_slot(NVME_DEVICE)},serial=iommufd-lab,drive={_SCRATCH}{nvme}"]
        if not self.incoherent:  # The lab's own emulator has no ivshmem.
            args += ["-object", f"memory-backend-ram,id=peer,size={_PEER_BYTES},share=on"]
            args += ["-device", f"ivshmem-plain,addr={_slot(PEER_DEVICE)},memdev=peer"]
        for device in self.devices:
            args += ["-device", device]
        return tuple(args)

    def _iommu_devices(self) -> tuple[str, ...]:
        if self.iommu == "none":
            return ()
        if self.iommu != "vtd":
            return (_OTHER_IOMMUS[self.iommu],)
        vtd = ["intel-iommu", "intremap=on", "caching-mode=on", f"snoop-control={'on' if self.coherent else 'off'}"]
        if self.scalable:
            vtd += ["x-scalable-mode=on", "aw-bits=48"]
            if self.incoherent:
                # The packaged QEMU has PASIDs, too, but ignores their invalidation.
                vtd.append("x-pasid-mode=on")
        return (",".join(vtd),)

    def kernel_args(self) -> tuple[str, ...]:
        """Arguments for the guest kernel's command line."""
        if self.iommu == "vtd":
            iommu: tuple[str, ...] = ("intel_iommu=on,sm_on" if self.scalable else "intel_iommu=on",)
        else:
            iommu = _UNSAFE_INTERRUPTS if self.iommu != "none" else ()
        return (
            *iommu,
            f"hugepages={self.hugepages}",
            # At boot the kernel counts timer ticks, and panics if it counts too few. An emulated CPU on a busy host
            # misses some.
            "no_timer_check",
            # The watchdog takes the pauses of a busy host for an unstable TSC and falls back to a clock that costs
            # an I/O port access per reading.
            "tsc=reliable",
            *_KERNEL_ARGS,
            *self.options,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeMachine:
    """User-Mode Linux: this machine's CPU and caches, no hardware, and the IOMMU of the kernel's mock driver.

    It has one CPU.

    Attributes:
        memory_bytes: memory of the guest.
        options: further words of the kernel's command line.
    """

    memory_bytes: int = 2 << 30
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.memory_bytes < 256 << 20:
            raise ValueError(f"{format_bytes(self.memory_bytes)} is too little memory: the guest needs 256 MiB")

    def __str__(self) -> str:
        return "native CPU and caches, mock IOMMU"

    def kernel_args(self) -> tuple[str, ...]:
        """Arguments for the kernel, which is started as a program."""
        return (
            f"mem={self.memory_bytes >> 20}M",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            # System calls of the guest are caught by seccomp, which takes half the time that ptrace takes.
            "seccomp=on",
            # The console is the log; terminals 1 and 2 are the command's output and errors.
            "con=null",
            "con0=fd:0,fd:1",
            "con1=fd:5,fd:3",
            "con2=fd:6,fd:4",
            "panic=-1",
            *_KERNEL_ARGS,
            *self.options,
        )


def scratch_args(file: Path) -> tuple[str, ...]:
    """Return the QEMU arguments for an NVMe namespace with the contents of *file*. The file must exist."""
    name = str(file).replace(",", ",,")
    return ("-blockdev", f"driver=file,filename={name},node-name={_SCRATCH}")


def _slot(address: str) -> str:
    return f"0x{address.rpartition(':')[2]}"
