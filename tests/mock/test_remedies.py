# SPDX-License-Identifier: MIT
"""A remedy that the tool prints is followed on the kernel's mock driver, and the same command or call then succeeds."""

import json
import re
import resource
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import (
    Backing,
    DmaBuffer,
    HwptAllocFlags,
    HwptInvalidateType,
    Ioas,
    Iommufd,
    IommufdError,
    IovaRange,
    MapFlags,
    MediatedDevice,
    MockAccess,
    MockDevice,
    PageFault,
    PageFaultPermission,
    RegionIndex,
    VEventQueueType,
    VIommuType,
)
from iommufd_py.mock.data import parse_viommu_data, viommu_data
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.syscalls import without_ipc_lock
from iommufd_py.vfio.emulated import EmulatedDevice
from tests.conftest import need_ioctl
from tests.following import Change, Cli, Words, end_with, follow, found_in, give, in_place_of, leave_out, use
from tests.open_files import TOO_MANY, no_descriptor_left
from tests.programs import IOMMUFD

pytestmark = pytest.mark.usefixtures("mock_driver")

PAGE = 4096
IOVA = 1 << 24
RUN = "bench run --device mock --processes 1 --no-retry --values 2"


def joined(words: Words, found: re.Match[str]) -> Words:
    """Give all values of the option in one list, with commas."""
    places = [at for at, word in enumerate(words) if word == found[1]]
    values = ",".join(words[at + 1] for at in places)
    rest = [word for at, word in enumerate(words) if at not in places and at - 1 not in places]
    return [*rest, found[1], values]


@pytest.mark.parametrize(
    ("command", "remedy", "change"),
    [
        ("map --size 4K", r"name the device with (--device)$", give("mock")),
        ("map --size 4K --device MOCK", r"is not a PCI address: write .*, or mock$", end_with("mock")),
        (
            "map --device mock --size lots",
            r"is not a size: write bytes, or a number with K, M, G or T$",
            end_with("8K"),
        ),
        (f"{RUN} --size 4K --iova 0x1001000 --alignment 1M", r"leave out (--iova) or --alignment$", leave_out),
        (f"{RUN} --size 4K --iova 0x1001000 --alignment 1M", r"leave out --iova or (--alignment)$", leave_out),
        (f"{RUN} --size 4K --iova 0x1000", r"choose another (--iova), or leave it out$", leave_out),
        (f"{RUN} --size 4K --iova 0x1000400", "is not a multiple of 2K: choose another$", end_with("0x1000800")),
        (f"{RUN} --size 4G", "no allowed IOVA range holds 4G .*; map less, ", end_with("4K")),
        (f"{RUN} --size 4K --operation teardown --hwpts 2", r"the only domain: use (--hwpts) (1)$", use),
        (
            f"{RUN} --size 4K --operation attach --hwpts 0",
            r"adds a domain to existing ones: use (--operation) (teardown) (--hwpts) (1) for the first one$",
            use,
        ),
        (f"{RUN} --size 4K --alignment 5K", r"not an alignment: give a power of two of at least 4K$", end_with("8K")),
        (f"{RUN} --size 4K --seconds 0.1", r"(--values) and --seconds contradict .*: give one$", leave_out),
        (f"{RUN} --size 4K --label ' '", r"(--label) is blank: give a name, or leave it out$", leave_out),
        (f"{RUN} --size 4K --size 8K", r"(--size) is given more .*: give all values in one list, with commas$", joined),
        (f"{RUN} --size 4K --operation map --dma", r"(--dma) is short for .*; give one of them$", leave_out),
        (
            f"{RUN} --size 4K --cpu 4000",
            r"nothing can run on CPU 4000: this process may use \[(\d+)",
            in_place_of("4000"),
        ),
    ],
)
def test_options(cli: Cli, command: str, remedy: str, change: Change) -> None:
    follow(cli, shlex.split(command), remedy, change)


def test_damaged_file_is_written_again_by_the_command_that_wrote_it(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    words = (*RUN.split(), "--size", "4K", "--output", str(file))
    assert cli(*words).returncode == 0
    whole = json.loads(file.read_text())
    show = ("bench", "show", str(file))
    del whole["rows"][0]["iova"]
    damages = {
        json.dumps(whole): r"is damaged at .*; repeat the command that wrote it$",
        "[": r"is not JSON: give a file that '(iommufd bench run --output)' wrote$",
    }
    for text, remedy in damages.items():
        file.write_text(text)
        found_in(cli(*show), remedy)
        assert cli(*words).returncode == 0
        assert cli(*show).returncode == 0


def test_thread_is_explained_by_its_process(cli: Cli, iommufd: Iommufd) -> None:
    """This process uses /dev/iommu."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        pid = str(thread.native_id)
        remedy = r"is a thread of process (\d+): give that PID$"
        follow(cli, ("explain", "--seconds", "0", "--pid", pid), remedy, in_place_of(pid))
    finally:
        end.set()


@pytest.mark.parametrize(
    ("stranger", "remedy"),
    [
        ("1", r"has neither .*: give the PID of the process that maps, such as the VMM; '(fuser .*)' shows the users$"),
        ("4000000", r"there is no process 4000000: '(pgrep -l) NAME' finds the PID of a program$"),
    ],
)
def test_process_that_maps_is_found_by_a_command(cli: Cli, iommufd: Iommufd, stranger: str, remedy: str) -> None:
    with subprocess.Popen(
        [IOMMUFD, "map", "--device", "mock", "--size", "4K", "--hold"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as mapping:
        assert mapping.stderr is not None and b"mapped" in mapping.stderr.readline()
        words = ("explain", "--seconds", "0", "--pid", stranger)
        command = found_in(cli(*words), remedy)[1]
        name = " iommufd" if command.startswith("pgrep") else ""
        shown = subprocess.run(command + name, shell=True, capture_output=True, text=True, check=False)
        assert str(mapping.pid) in re.findall(r"\d+", shown.stdout), shown
        assert cli(*words[:-1], str(mapping.pid)).returncode == 0
        mapping.communicate(b"")


def test_name_of_an_error_is_as_in_the_example(cli: Cli, tmp_path: Path) -> None:
    program = "with expect('{}'):\n    ioas.unmap(0x1000, 0x1000)\n"
    found = found_in(
        cli("shell", input=program.format("enoent")), r"is not the name of an error: write for example '(\w+)'"
    )
    assert found[1].isupper()
    assert cli("shell", input=program.format("ENOENT")).returncode == 0


def refused(call: Callable[[], object], remedy: str) -> None:
    with pytest.raises(IommufdError, match=remedy):
        call()


def test_iova_that_is_mapped(ioas: Ioas) -> None:
    with DmaBuffer(PAGE) as buffer:
        first = ioas.map(buffer, IOVA)
        refused(lambda: ioas.map(buffer, IOVA), "is mapped already; unmap it first or choose another IOVA$")
        other = ioas.map(buffer, IOVA + PAGE)
        first.close()
        ioas.map(buffer, IOVA).close()
        other.close()


def test_part_of_a_mapping(ioas: Ioas) -> None:
    with DmaBuffer(2 * PAGE) as buffer:
        ioas.map(buffer, IOVA)
        refused(lambda: ioas.unmap(IOVA, PAGE), "a mapping reaches past its ends; unmap whole mappings only$")
        assert ioas.unmap(IOVA, 2 * PAGE) == 2 * PAGE


def test_iova_outside_the_ranges(ioas: Ioas, mock_device: MockDevice) -> None:
    mock_device.attach(ioas)
    with DmaBuffer(PAGE) as buffer:
        refused(lambda: ioas.map(buffer, 1), r"see Ioas\.iova_ranges\(\) for both the ranges and the alignment$")
        allowed = ioas.iova_ranges()
        start = -(-max(allowed.ranges[0].start, PAGE) // allowed.alignment) * allowed.alignment
        ioas.map(buffer, start).close()


def test_no_room_in_the_allowed_ranges(ioas: Ioas) -> None:
    ioas.allow_iovas([IovaRange(IOVA, IOVA + PAGE - 1)])
    with DmaBuffer(PAGE) as buffer:
        first = ioas.map(buffer)
        refused(lambda: ioas.map(buffer), "no free IOVA range of this length is left .*; unmap something$")
        first.close()
        ioas.map(buffer).close()


def test_object_in_use(iommufd: Iommufd, ioas: Ioas, mock_device: MockDevice) -> None:
    """The objects of this package close what depends on them; a program of its own makes the ioctl itself."""
    hwpt = mock_device.alloc_hwpt(ioas)
    mock_device.attach(hwpt)
    remedy = "the object is still used: detach the devices of a HWPT, destroy the HWPTs of an IOAS first$"
    with iommufd.alloc_ioas() as other:
        used = mock_device.alloc_hwpt(other)
        refused(lambda: uapi.destroy(iommufd.fileno(), other.id), remedy)
        used.close()
    refused(lambda: uapi.destroy(iommufd.fileno(), hwpt.id), remedy)
    mock_device.detach()
    hwpt.close()


def test_accounting_mode_comes_before_all_objects(iommufd: Iommufd) -> None:
    with Iommufd() as late:
        ioas = late.alloc_ioas()

        def change() -> None:
            late.rlimit_mode = 1

        refused(change, "the accounting mode can only change before any object is made on the iommufd$")
        ioas.close()
        change()


def test_dirty_tracking_is_asked_for_at_the_allocation(ioas: Ioas, mock_device: MockDevice) -> None:
    hwpt = mock_device.alloc_hwpt(ioas)
    refused(hwpt.track_dirty, "was not made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING; ask for it when allocating it$")
    mock_device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING).track_dirty().close()


def test_node_that_this_dev_lacks() -> None:
    """As in a container. Only the mount namespace of the command sees the other /dev."""

    def map_after(*commands: str) -> "subprocess.CompletedProcess[str]":
        script = "; ".join((*commands, f"exec {IOMMUFD} map --device mock --size 4K"))
        return subprocess.run(["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, check=False)

    empty = "mount -t tmpfs nodev /dev"
    remedy = found_in(map_after(empty), r"pass /dev/iommu in, or run: (mount .*)$")[1]
    done = map_after(empty, remedy)
    assert done.returncode == 0, done


def test_copy_of_a_read_only_mapping(iommufd: Iommufd, ioas: Ioas) -> None:
    with DmaBuffer(PAGE) as buffer, iommufd.alloc_ioas() as other:
        source = ioas.map(buffer, IOVA, flags=MapFlags.READABLE)
        refused(lambda: other.copy(source), "copy it with MapFlags.READABLE, or map the memory anew with both$")
        other.copy(source, flags=MapFlags.READABLE).close()
        source.close()
        other.copy(ioas.map(buffer, IOVA))


def test_access_to_a_read_only_mapping(ioas: Ioas) -> None:
    with DmaBuffer(PAGE) as buffer, MockAccess(ioas) as access:
        mapping = ioas.map(buffer, IOVA, flags=MapFlags.READABLE)
        refused(lambda: access.write(IOVA, b"x"), "map the memory with MapFlags.READABLE and MapFlags.WRITEABLE$")
        mapping.close()
        ioas.map(buffer, IOVA)
        access.write(IOVA, b"x")


def test_file_that_cannot_be_mapped(ioas: Ioas, mock_device: MockDevice, tmp_path: Path) -> None:
    mock_device.attach(ioas)
    remedy = "EINVAL: the file is neither a memfd nor a dma-buf, or ends before the range, or "
    with (tmp_path / "file").open("w+b") as file, DmaBuffer(PAGE, Backing.MEMFD) as buffer:
        file.truncate(PAGE)
        refused(lambda: ioas.map_fd(file.fileno(), 0, PAGE, IOVA), remedy)
        assert buffer.fd is not None
        fd = buffer.fd
        refused(lambda: ioas.map_fd(fd, 0, 2 * PAGE, IOVA), remedy)
        assert ioas.map_fd(fd, 0, PAGE, IOVA) == IOVA
        ioas.unmap_all()


def test_ranges_that_cannot_be_allowed(ioas: Ioas) -> None:
    remedy = "two ranges overlap, or one is shorter than two bytes$"
    first, second = IovaRange(0, 2 * PAGE - 1), IovaRange(PAGE, 3 * PAGE - 1)
    refused(lambda: ioas.allow_iovas([first, second]), remedy)
    refused(lambda: ioas.allow_iovas([IovaRange(0, 0)]), remedy)
    ioas.allow_iovas([first, IovaRange(2 * PAGE, 3 * PAGE - 1)])


def test_huge_pages_are_switched_off_before_the_first_map(
    iommufd: Iommufd, ioas: Ioas, mock_device: MockDevice
) -> None:
    def switch_off(space: Ioas) -> None:
        space.huge_pages = False

    with DmaBuffer(PAGE) as buffer, iommufd.alloc_ioas() as other:
        mock_device.attach(ioas)
        ioas.map(buffer, IOVA)
        refused(lambda: switch_off(ioas), "do it before the IOAS has both a mapping and a HWPT$")
        switch_off(other)
        mock_device.attach(other)
        other.map(buffer, IOVA)


def test_misaligned_dirty_bitmap(ioas: Ioas, mock_device: MockDevice) -> None:
    hwpt = mock_device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    with DmaBuffer(PAGE) as buffer, hwpt.track_dirty() as tracking:
        ioas.map(buffer, IOVA)
        remedy = "multiples of the requested page size and of the IOMMU's smallest page; see Ioas.iova_ranges"
        refused(lambda: tracking.read(IOVA + 1, PAGE), remedy)
        tracking.read(IOVA, PAGE)


def test_pages_that_the_first_domain_pins(iommufd: Iommufd, ioas: Ioas, mock_device: MockDevice) -> None:
    """Without a domain a map pins nothing, so the limit stops the HWPT."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with DmaBuffer(16 * PAGE) as buffer, without_ipc_lock():
        ioas.map(buffer, IOVA)
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, before[1]))
            refused(lambda: mock_device.alloc_hwpt(ioas), r"ENOMEM: .* RLIMIT_MEMLOCK .* raise the limit \(ulimit -l, ")
            refused(lambda: mock_device.attach(ioas), r"ENOMEM: .* raise the limit \(ulimit -l, .*\) or map less$")
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
        mock_device.alloc_hwpt(ioas)


def test_memory_that_is_gone_when_the_first_domain_pins_it(ioas: Ioas, mock_device: MockDevice) -> None:
    with DmaBuffer(PAGE) as buffer:
        ioas.map_user_va(buffer.user_va, PAGE, IOVA)
    refused(lambda: mock_device.alloc_hwpt(ioas), "EFAULT: part of the user memory is not mapped")
    ioas.unmap(IOVA, PAGE)
    mock_device.alloc_hwpt(ioas)


def test_no_descriptor_left_for_a_queue(iommufd: Iommufd) -> None:
    with no_descriptor_left():
        refused(iommufd.alloc_fault_queue, f"EMFILE: {TOO_MANY}$")
    iommufd.alloc_fault_queue()


def test_fault_that_nobody_waits_for(iommufd: Iommufd) -> None:
    fault = PageFault(1, None, 0, True, PageFaultPermission.READ, IOVA, 0, 4711)
    queue = iommufd.alloc_fault_queue()
    refused(lambda: queue.respond(fault), "EINVAL: no fault with this cookie waits for an answer$")


def test_viommu_that_is_made_as_the_refusals_say(iommufd: Iommufd, ioas: Ioas, mock_device: MockDevice) -> None:
    need_ioctl(iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    plain = mock_device.alloc_hwpt(ioas)
    kind, data = VIommuType.SELFTEST, viommu_data(1)
    refused(lambda: mock_device.alloc_viommu(plain, kind, data), "not made with HwptAllocFlags.NEST_PARENT, or")
    viommu = mock_device.alloc_viommu(mock_device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT), kind, data)
    refused(lambda: viommu.map_memory(0, PAGE), "at this offset with this length; its data has both$")
    told = parse_viommu_data(viommu.data)
    viommu.map_memory(told.mmap_offset, told.mmap_length).close()
    refused(lambda: viommu.alloc_event_queue(VEventQueueType.SELFTEST, 0), "the depth must be at least 1")
    viommu.alloc_event_queue(VEventQueueType.SELFTEST, 1).close()
    with DmaBuffer(PAGE) as buffer:
        mapping = ioas.map(buffer, IOVA)
        refused(lambda: viommu.alloc_hw_queue(kind, 99, mapping), "no hardware queue with this index$")
        viommu.alloc_hw_queue(kind, 0, mapping)
    wrong = (HwptInvalidateType.VTD_S1, bytes(8))
    refused(lambda: viommu.invalidate(*wrong), "has a length, a type or a content that the IOMMU does not know$")


def test_dirty_bitmap_is_asked_for_at_the_allocation(iommufd: Iommufd, ioas: Ioas, mock_device: MockDevice) -> None:
    hwpt = mock_device.alloc_hwpt(ioas)
    arguments = (iommufd.fileno(), hwpt.id, IOVA, PAGE, PAGE, bytearray(8))
    refused(lambda: uapi.hwpt_get_dirty_bitmap(*arguments), "was not made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING; ask")


def test_emulated_device_has_no_iommu(iommufd: Iommufd, ioas: Ioas) -> None:
    with EmulatedDevice() as emulated, MediatedDevice(iommufd, emulated.uuid) as device:
        for call in (device.hw_info, lambda: device.alloc_hwpt(ioas)):
            refused(call, r"\(a mediated device\) has no IOMMU: attach it to an IOAS instead$")
        refused(lambda: device.attach(ioas, pasid=1), "has no PASIDs$")
        bar = device.region(RegionIndex.BAR0)
        refused(lambda: bar.ioeventfd(0, 1, 1), "the driver of the device, or this kernel, does not have the ioctl$")
        device.attach(ioas)
