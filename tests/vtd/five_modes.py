# SPDX-License-Identifier: MIT
"""A walk of random maps and unmaps, and the right answer of each of the five container modes to each step.

All modes keep the same set of mappings and give the same answers, except for the differences below. Each difference
names its source. Any other difference is a bug or a new difference.
"""

import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from iommufd_py import Container, ContainerMode, DmaBuffer, IommufdError
from iommufd_py.base.errors import DmaError
from iommufd_py.dma import DmaEngine

PAGE = 4096
BASE = 0x10_0000
PAGES = 32
"""Number of pages of IOVA space in the walk, from BASE."""


class Bisected(Enum):
    """The effect of an unmap whose range contains a part of a mapping."""

    REFUSED = "the whole call is refused with EINVAL"
    REFUSED_LATE = "ENOENT, after the mappings below the first divided mapping are unmapped"
    BY_ITS_START = "a mapping that starts in the range is unmapped whole; a mapping that starts before it ends the call"
    CUT = "exactly the range is unmapped"


@dataclass(frozen=True)
class Manners:
    """The special behaviour of a mode.

    Attributes:
        bisected: the effect of an unmap whose range contains a part of a mapping.
        empty: the errno of an unmap of a range without a mapping, 0 for success.
        source: the place in the kernel's source.
    """

    bisected: Bisected
    empty: int
    source: str


_TYPE1 = "vfio_dma_do_unmap() in drivers/vfio/vfio_iommu_type1.c, the comment on v1 and v2"
_COMPAT = "iommufd_vfio_unmap_dma() in drivers/iommu/iommufd/vfio_compat.c, iopt_unmap_iova_range()"

MANNERS = {
    ContainerMode.VFIO_TYPE1: Manners(Bisected.BY_ITS_START, 0, _TYPE1),
    ContainerMode.VFIO_TYPE1V2: Manners(Bisected.REFUSED, 0, _TYPE1),
    ContainerMode.COMPAT_TYPE1: Manners(Bisected.CUT, 0, f"{_COMPAT}, iopt_cut_iova()"),
    ContainerMode.COMPAT_TYPE1V2: Manners(Bisected.REFUSED_LATE, 0, _COMPAT),
    ContainerMode.IOMMUFD: Manners(
        Bisected.REFUSED_LATE, errno.ENOENT, "iommufd_ioas_unmap() in drivers/iommu/iommufd/ioas.c"
    ),
}


@dataclass(frozen=True)
class ContainerCall:
    """One call. It maps *count* pages of the buffer from *page* at the same page of the IOVAs, or it unmaps that
    range."""

    maps: bool
    page: int
    count: int

    def __str__(self) -> str:
        iova, length = BASE + self.page * PAGE, self.count * PAGE
        if self.maps:
            return f"container.map(buffer, {iova:#x}, offset={self.page * PAGE:#x}, length={length:#x})"
        return f"container.unmap({iova:#x}, {length:#x})"


@dataclass(frozen=True)
class Answer:
    """The answer to a call: an errno, 0 for success, and the number of unmapped bytes."""

    errno: int
    unmapped: int = 0

    def __str__(self) -> str:
        return errno.errorcode[self.errno] if self.errno else f"success, {self.unmapped:#x} bytes unmapped"


def random_calls(seed: int, count: int) -> Iterator[ContainerCall]:
    """Yield *count* steps. They depend on the seed only, and not on the answers of a mode."""
    chance = random.Random(seed)
    for _ in range(count):
        size = min(chance.choice((1, 1, 2, 3, 5, 8)), PAGES)
        yield ContainerCall(chance.random() < 0.55, chance.randrange(PAGES - size + 1), size)


@dataclass
class ContainerModel:
    """The mappings of a container with the given *Manners*, by their first page."""

    manners: Manners
    mapped: dict[int, int] = field(default_factory=dict)

    def take(self, step: ContainerCall) -> Answer:
        """Apply the step to the mappings, and return the right answer of the kernel."""
        hit = sorted((page, count) for page, count in self.mapped.items() if _overlap(step, page, count))
        if step.maps:
            if hit:
                return Answer(errno.EEXIST)
            self.mapped[step.page] = step.count
            return Answer(0)
        if not hit:
            return Answer(self.manners.empty)
        bisected = [(page, count) for page, count in hit if not _inside(step, page, count)]
        if not bisected:
            return self._drop(hit)
        match self.manners.bisected:
            case Bisected.REFUSED:
                return Answer(errno.EINVAL)
            case Bisected.REFUSED_LATE:
                self._drop([one for one in hit if one < bisected[0]])
                return Answer(errno.ENOENT)
            case Bisected.BY_ITS_START:
                return Answer(0) if hit[0][0] < step.page else self._drop(hit)
            case Bisected.CUT:
                return self._cut(step, hit)

    @property
    def pages(self) -> frozenset[int]:
        """The pages that are mapped."""
        return frozenset(page for first, count in self.mapped.items() for page in range(first, first + count))

    def _drop(self, gone: list[tuple[int, int]]) -> Answer:
        for page, _ in gone:
            del self.mapped[page]
        return Answer(0, sum(count for _, count in gone) * PAGE)

    def _cut(self, step: ContainerCall, hit: list[tuple[int, int]]) -> Answer:
        before = len(self.pages)
        end = step.page + step.count
        for page, count in hit:
            del self.mapped[page]
            if page < step.page:
                self.mapped[page] = step.page - page
            if page + count > end:
                self.mapped[end] = page + count - end
        return Answer(0, (before - len(self.pages)) * PAGE)


def _overlap(step: ContainerCall, page: int, count: int) -> bool:
    return page < step.page + step.count and step.page < page + count


def _inside(step: ContainerCall, page: int, count: int) -> bool:
    return step.page <= page and page + count <= step.page + step.count


def execute_call(container: Container, buffer: DmaBuffer, step: ContainerCall) -> Answer:
    """Execute a step on the kernel, and return its answer."""
    iova, length = BASE + step.page * PAGE, step.count * PAGE
    try:
        if step.maps:
            # This uses the ioctl, because the object Container would keep track of the mappings and unmap the rest of
            # them.
            container.map_user_va(buffer.user_va + step.page * PAGE, length, iova)
            return Answer(0)
        return Answer(0, container.unmap(iova, length))
    except IommufdError as failure:
        assert failure.errno is not None
        return Answer(failure.errno)


def reached(engine: DmaEngine, buffer: DmaBuffer, page: int) -> int | None:
    """Let the device write to a page of the IOVAs, and return the page of *buffer* that its data reached, or None."""
    length = engine.writes.fit(PAGE)
    with buffer.view as view:
        view[:] = bytes(len(view))
    engine.sync(buffer)
    try:
        content = engine.write(BASE + page * PAGE, length)
    except DmaError:
        # The device noticed that the IOMMU stopped it.
        engine.restart()
        content = b""
    engine.sync(buffer)
    with buffer.view as view:
        found = bytes(view)
    if not any(found):
        return None
    at = found.index(content)
    assert found == bytes(at) + content + bytes(len(found) - at - length), "the device's write reached other bytes too"
    return at // PAGE


def script(bdf: str, mode: ContainerMode, taken: list[ContainerCall]) -> str:
    """Return a program that plays the steps."""
    lines = [
        "from iommufd_py import DmaBuffer, IommufdError, open_container",
        f'with open_container("{mode}", "{bdf}") as container, DmaBuffer({PAGES * PAGE}) as buffer:',
    ]
    for step in taken:
        iova, length, offset = BASE + step.page * PAGE, step.count * PAGE, step.page * PAGE
        call = (
            f"container.map_user_va(buffer.user_va + {offset:#x}, {length:#x}, {iova:#x})"
            if step.maps
            else f"container.unmap({iova:#x}, {length:#x})"
        )
        lines += ["    try:", f"        print({call})", "    except IommufdError as failure:", "        print(failure)"]
    return "\n".join(lines)
