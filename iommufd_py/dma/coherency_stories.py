# SPDX-License-Identifier: MIT
"""The stories that show whether a kernel keeps DMA without snoop and the CPU caches in step, byte by byte.

Each does what a program may do with a device, flushes nothing that is the kernel's to flush, and looks at what the
device and the CPU read. The docstring's first line says what must hold.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from iommufd_py.base.errors import BackingError, SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.coherency import Content, StoryResult, StoryVerdict
from iommufd_py.dma.coherency_scene import Scene
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.mapping import Mapping
from iommufd_py.uapi.enums import MapFlags

_PAGES = 2
_HALF = 4 * PAGE_BYTES
_SCATTERED, _CONTIGUOUS = 24, 64
# Pages that are given back, in the hope to get some of them again; and of these, that a device writes to.
_AGAIN, _WRITTEN = 64, 8
_HUGE = 2 << 20


def fill_before_map(scene: Scene) -> None:
    """The device reads the data that the CPU wrote before the map."""
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        new, old = scene.write(buffer)
        with scene.space.map(buffer, scene.iova):
            scene.device_reads("after the map", new, [old])


def fresh_page(scene: Scene) -> None:
    """The device reads zeros from a page that the kernel has just cleared, not what the page's former owner had."""
    former = scene.content("the former owner's memory", PAGE_BYTES)
    with DmaBuffer(_AGAIN * PAGE_BYTES) as old:
        scene.put(old, former.times(_AGAIN), in_memory=True)
        frames = set(old.frames())
    with DmaBuffer(_AGAIN * PAGE_BYTES) as new:
        at = _page_again(new, frames) * PAGE_BYTES
        with scene.space.map(new, scene.iova):
            scene.device_reads("after the map", Content.zeros(PAGE_BYTES), [former], at)


def next_owner(scene: Scene) -> None:
    """What a device wrote for one owner of a page is nothing that the next one's device or CPU reads."""
    former = scene.content("the former owner's memory", PAGE_BYTES)
    packets = {}
    with DmaBuffer(_AGAIN * PAGE_BYTES) as old:
        scene.put(old, former.times(_AGAIN), in_memory=True)
        with scene.space.map(old, scene.iova):
            for page, frame in enumerate(old.frames()[:_WRITTEN]):
                origin = "the device's data for the former owner"
                packets[frame] = scene.device_writes(PAGE_BYTES // 8, origin, page * PAGE_BYTES)
    with DmaBuffer(_AGAIN * PAGE_BYTES) as new:
        page = _page_again(new, set(packets))
        at, zeros, others = page * PAGE_BYTES, Content.zeros(PAGE_BYTES), [packets[new.frames()[page]], former]
        with scene.space.map(new, scene.iova):
            scene.device_reads("after the map", zeros, others, at)
        scene.cpu_reads("after the unmap", new, [zeros], others, at)
        new.flush(at, PAGE_BYTES)
        scene.cpu_reads("after a CLFLUSH", new, [zeros], others, at)


def after_unmap(scene: Scene) -> None:
    """After the unmap the CPU reads the device's data, and a CLFLUSH does not change it."""
    _unmapped(scene, scene.space.map)


def read_only_map(scene: Scene) -> None:
    """The device reads the data that the CPU wrote before a read-only map."""
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        new, old = scene.write(buffer)
        with scene.space.map(buffer, scene.iova, flags=MapFlags.READABLE):
            scene.device_reads("after the map", new, [old])


def scattered_pages(scene: Scene) -> None:
    """The device reads the CPU's data in each of many pages that do not lie side by side."""
    with DmaBuffer(2 * _SCATTERED * PAGE_BYTES) as hog:
        for page in range(0, 2 * _SCATTERED, 2):
            hog.give_back(page * PAGE_BYTES, PAGE_BYTES)
        with DmaBuffer(_SCATTERED * PAGE_BYTES) as buffer:
            runs = buffer.physical_runs()
            if runs is not None and sum(runs.values()) < _SCATTERED // 2:
                raise SkipError(
                    f"the kernel has no lone free pages now: {_SCATTERED} came in {sum(runs.values())} runs"
                )
            new, old = scene.write(buffer)
            with scene.space.map(buffer, scene.iova):
                scene.device_reads_pages("after the map", new, [old])


def contiguous_pages(scene: Scene) -> None:
    """The device reads the CPU's data in each page of a mapped part of a huge page."""
    with DmaBuffer(_HUGE, Backing.THP) as buffer:
        new, old = scene.write(buffer, _CONTIGUOUS * PAGE_BYTES)
        with scene.space.map(buffer, scene.iova, length=_CONTIGUOUS * PAGE_BYTES):
            scene.device_reads_pages("after the map", new, [old])


def huge_folio(scene: Scene) -> None:
    """Device and CPU read one another's writes in memory of one 2 MiB folio, as a virtual machine's is."""
    _both_ways(scene, scene.space.map, Backing.MEMFD_HUGETLB_2M, _HUGE)


def mapped_file(scene: Scene) -> None:
    """Device and CPU read one another's writes in a memfd that is mapped by its descriptor."""
    ioas = _ioas(scene)
    if not ioas.iommufd.probe()["IOMMU_IOAS_MAP_FILE"]:
        raise SkipError("this kernel has no IOMMU_IOAS_MAP_FILE (since Linux 6.13)")
    _both_ways(scene, ioas.map_file, Backing.MEMFD, _PAGES * PAGE_BYTES)


def attach_to_populated(scene: Scene) -> None:
    """A device that attaches to an IOAS with mappings reads the data that the CPU wrote before the maps."""
    with _other_ioas(scene) as other, DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        new, old = scene.write(buffer)
        other.map(buffer, scene.iova)
        with _device(scene).alloc_hwpt(other) as domain, _attached(scene, domain):
            scene.device_reads("after the attach", new, [old])


def half_mapped_later(scene: Scene) -> None:
    """A device reads both halves of a buffer that two IOASes have by IOAS_COPY: its own got its half last."""
    ioas = _ioas(scene)
    with _other_ioas(scene) as source, _other_ioas(scene) as other, DmaBuffer(2 * _HALF) as buffer:
        new, old = scene.write(buffer)
        whole = source.map(buffer, scene.iova)
        other.copy(whole, scene.iova, offset=_HALF, length=_HALF)
        with _device(scene).alloc_hwpt(other) as domain:
            with _attached(scene, domain):
                scene.device_reads("after the attach", new.part(_HALF), [old.part(_HALF)])
            with ioas.copy(whole, scene.iova, length=_HALF):
                scene.device_reads("after the copy", new.part(0, _HALF), [old.part(0, _HALF)])


def half_attached_later(scene: Scene) -> None:
    """A device reads both halves of a buffer that two IOASes have by IOAS_COPY: it comes to one of them last."""
    ioas = _ioas(scene)
    with _other_ioas(scene) as source, _other_ioas(scene) as other, DmaBuffer(2 * _HALF) as buffer:
        new, old = scene.write(buffer)
        whole = source.map(buffer, scene.iova)
        with ioas.copy(whole, scene.iova, length=_HALF):
            scene.device_reads("after the copy", new.part(0, _HALF), [old.part(0, _HALF)])
            other.copy(whole, scene.iova, offset=_HALF, length=_HALF)
            with _device(scene).alloc_hwpt(other) as domain, _attached(scene, domain):
                scene.device_reads("after the attach", new.part(_HALF), [old.part(_HALF)])


def one_of_two_hwpts(scene: Scene) -> None:
    """After one of two HWPTs of an IOAS is destroyed, the CPU still reads the device's data after the unmap."""
    ioas, device = _ioas(scene), _device(scene)

    def mapped(buffer: DmaBuffer, iova: int) -> DmaMapping:
        with device.alloc_hwpt(ioas):
            return ioas.map(buffer, iova)

    _unmapped(scene, mapped)


def replaced_hwpt(scene: Scene) -> None:
    """Device and CPU read one another's writes when the HWPT is replaced meanwhile by another of the IOAS."""
    ioas, device = _ioas(scene), _device(scene)
    before = device.attachments[None].target
    with device.alloc_hwpt(ioas) as second:

        def mapped(buffer: DmaBuffer, iova: int) -> DmaMapping:
            mapping = ioas.map(buffer, iova)
            device.attach(second)
            return mapping

        try:
            _both_ways(scene, mapped, Backing.ANON_4K, _PAGES * PAGE_BYTES)
        finally:
            device.attach(before)


def _unmapped(scene: Scene, mapped: Callable[[DmaBuffer, int], Mapping]) -> None:
    """Have the device write into memory that the CPU has in its caches, clean, and look after the unmap."""
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        mine = scene.content("the CPU's data", _PAGES * PAGE_BYTES)
        scene.put(buffer, mine, in_memory=True)
        scene.cpu_reads("before the map", buffer, [mine])
        mapping = mapped(buffer, scene.iova)
        _written_by_the_device(scene, buffer, mapping, mine)


def _both_ways(scene: Scene, mapped: Callable[[DmaBuffer, int], Mapping], backing: Backing, length: int) -> None:
    with DmaBuffer(length, backing) as buffer:
        new, old = scene.write(buffer, _PAGES * PAGE_BYTES)
        mapping = mapped(buffer, scene.iova)
        scene.device_reads("after the map", new, [old])
        # What is wrong by then must not show as the fault of the unmap.
        buffer.flush(0, _PAGES * PAGE_BYTES)
        _written_by_the_device(scene, buffer, mapping, new)


def _written_by_the_device(scene: Scene, buffer: DmaBuffer, mapping: Mapping, before: Content) -> None:
    at = PAGE_BYTES // 4
    written = scene.device_writes(PAGE_BYTES // 2, "the device's data", at)
    mapping.close()
    wanted = [before.part(0, at), written, before.part(at + PAGE_BYTES // 2)]
    scene.cpu_reads("after the unmap", buffer, wanted, [before])
    buffer.flush(0, _PAGES * PAGE_BYTES)
    scene.cpu_reads("after a CLFLUSH", buffer, wanted, [before])


def _page_again(buffer: DmaBuffer, frames: set[int]) -> int:
    """Return which page of *buffer* has one of *frames*.

    Raises:
        SkipError: none has, or the kernel does not tell (not root).
    """
    pages = [page for page, frame in enumerate(buffer.frames()) if frame and frame in frames]
    if not pages:
        raise SkipError(
            f"the kernel gave none of {len(frames)} pages again, or does not tell which they are (not root)"
        )
    # Not the first one: on a list of free pages it may be mixed with others.
    return pages[len(pages) // 2]


def _ioas(scene: Scene) -> Ioas:
    if not isinstance(scene.space, Ioas):
        raise SkipError("only iommufd can do that")
    return scene.space


def _device(scene: Scene) -> BoundDevice:
    device = scene.engine.device
    if not isinstance(device, BoundDevice):
        raise SkipError("only a device that is bound to an iommufd can do that")
    return device


@contextmanager
def _other_ioas(scene: Scene) -> Iterator[Ioas]:
    """Have a further IOAS, with the memory of the device's engine; its mappings go with it."""
    memory = scene.engine.memory
    iommufd = _ioas(scene).iommufd
    if not isinstance(iommufd, Iommufd) or not isinstance(memory, DmaMapping):
        raise SkipError("only iommufd can do that")
    with iommufd.alloc_ioas() as other:
        other.copy(memory, memory.iova)
        yield other


@contextmanager
def _attached(scene: Scene, hwpt: Hwpt) -> Iterator[None]:
    """Have the device attached to another HWPT for the time of the block."""
    device = _device(scene)
    before = device.attachments[None].target
    device.attach(hwpt)
    try:
        yield
    finally:
        device.attach(before)


@dataclass(frozen=True, slots=True)
class Story:
    """A story.

    Attributes:
        rule: what it is about, by the number in :data:`~iommufd_py.dma.coherency.RULES`.
        tell: the function.
    """

    rule: int
    tell: Callable[[Scene], None]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.tell.__name__.replace("_", " ")

    @property
    def purpose(self) -> str:
        """What must hold."""
        return (self.tell.__doc__ or "").strip()


STORIES = (
    Story(1, fill_before_map),
    Story(1, fresh_page),
    Story(3, after_unmap),
    Story(3, next_owner),
    Story(2, attach_to_populated),
    Story(1, half_mapped_later),
    Story(2, half_attached_later),
    Story(3, one_of_two_hwpts),
    Story(3, replaced_hwpt),
    Story(1, read_only_map),
    Story(1, scattered_pages),
    Story(1, contiguous_pages),
    Story(1, huge_folio),
    Story(1, mapped_file),
)
"""All of them; those on other IOASes and HWPTs skip where the device is not bound to an iommufd."""


def tell(story: Story, scene: Scene) -> StoryResult:
    """Tell one story and judge it."""
    scene.looks.clear()
    try:
        story.tell(scene)
    except (SkipError, BackingError) as reason:
        return StoryResult(story.name, story.rule, StoryVerdict.SKIP, (), str(reason))
    verdict = StoryVerdict.RIGHT if all(look.right for look in scene.looks) else StoryVerdict.WRONG
    return StoryResult(story.name, story.rule, verdict, tuple(scene.looks))
