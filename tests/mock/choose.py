# SPDX-License-Identifier: MIT
"""Choose random operations. Most of them succeed, and the others fail in all possible ways."""

from collections.abc import Callable, Iterator
from random import Random

from iommufd_py import IovaRange, MapFlags
from iommufd_py.mock import APERTURE, PAGE_BYTES
from tests.mock import steps
from tests.mock.areas import CPU_PAGE, LAST, IoptArea
from tests.mock.model import IommufdModel
from tests.mock.steps import Operation

# More of each would make the checks after every step slower, without new cases.
AREAS, HWPTS, ACCESSES, PINS = 12, 3, 2, 6

_IOVA_PAGES = 48

# IOVAs around the ends of the aperture and of the space, and misaligned ones.
_ODD_IOVAS = (
    0,
    CPU_PAGE,
    APERTURE.start - CPU_PAGE,
    APERTURE.start - PAGE_BYTES,
    APERTURE.start + 1,
    APERTURE.last + 1 - CPU_PAGE,
    APERTURE.last + 1,
    LAST + 1 - CPU_PAGE,
)
_ODD_LENGTHS = (0, 1, PAGE_BYTES // 2, CPU_PAGE + 1)
_FLAGS = [MapFlags.READ_WRITE] * 4 + [MapFlags.READABLE, MapFlags.WRITEABLE]


def random_operations(model: IommufdModel, random: Random) -> Iterator[Operation]:
    """Yield operations that fit the present state of *model*. The caller applies each before it asks for the next."""
    choices, weights = zip(*_WEIGHTS, strict=True)
    number = 0
    while True:
        operation = random.choices(choices, weights)[0](model, random, number)
        if operation is not None:
            number += 1
            yield operation


def _map(model: IommufdModel, random: Random, number: int) -> Operation | None:
    ioas = random.choice(steps.IOASES)
    if len(model.ioases[ioas].areas) >= AREAS:
        return None
    length = _length(random)
    offset = random.randrange(0, steps.SPAN - length, PAGE_BYTES if random.random() < 0.25 else CPU_PAGE)
    if random.random() < 0.02:
        offset += 1
    return steps.MapPages(ioas, random.choice(steps.MEMORIES), offset, length, _iova(random), random.choice(_FLAGS))


def _copy(model: IommufdModel, random: Random, number: int) -> Operation | None:
    source, ioas = random.choice(steps.IOASES), random.choice(steps.IOASES)
    area = _area(model, random, source)
    if area is None or len(model.ioases[ioas].areas) >= AREAS:
        return None
    start = _start(area, random)
    length = random.choice([area.length, area.length - start, CPU_PAGE, _length(random)])
    return steps.Copy(ioas, source, area.iova + start, length, _iova(random), random.choice(_FLAGS))


def _unmap(model: IommufdModel, random: Random, number: int) -> Operation | None:
    ioas = random.choice(steps.IOASES)
    area = _area(model, random, ioas)
    if area is None or random.random() < 0.1:
        return steps.UnmapRange(ioas, random.choice(_ODD_IOVAS), _length(random))
    if random.random() < 0.6:
        return steps.UnmapRange(ioas, area.iova, area.length)
    start = random.choice([-CPU_PAGE, -PAGE_BYTES, 0, 0, PAGE_BYTES])
    return steps.UnmapRange(ioas, max(area.iova + start, 0), _length(random) * random.choice([1, 4]))


def _unmap_all(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.UnmapAll(random.choice(steps.IOASES))


def _alloc_hwpt(model: IommufdModel, random: Random, number: int) -> Operation | None:
    if len(model.hwpts) >= HWPTS:
        return None
    return steps.AllocHwpt(f"hwpt{number}", random.choice(steps.DEVICES), random.choice(steps.IOASES))


def _close_hwpt(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.CloseHwpt(random.choice(list(model.hwpts))) if model.hwpts else None


def _attach(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.Attach(random.choice(steps.DEVICES), random.choice([*steps.IOASES, *model.hwpts]))


def _detach(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.Detach(random.choice(steps.DEVICES))


def _open_access(model: IommufdModel, random: Random, number: int) -> Operation | None:
    if len(model.accesses) >= ACCESSES:
        return None
    return steps.OpenAccess(f"access{number}", random.choice(steps.IOASES))


def _close_access(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.CloseAccess(random.choice(list(model.accesses))) if model.accesses else None


def _replace_access(model: IommufdModel, random: Random, number: int) -> Operation | None:
    if not model.accesses:
        return None
    return steps.ReplaceAccess(random.choice(list(model.accesses)), random.choice(steps.IOASES))


def _pin(model: IommufdModel, random: Random, number: int) -> Operation | None:
    if not model.accesses or len(model.pins) >= PINS:
        return None
    access, ioas = random.choice(list(model.accesses.items()))
    area = _area(model, random, ioas)
    if area is None:
        return None
    start = _start(area, random)
    length = random.choice([area.length, CPU_PAGE, _length(random)])
    # Rarely choose another page than that behind the IOVA.
    offset = max(area.offset + start + random.choice([0] * 19 + [CPU_PAGE]), 0)
    iova, memory, write = area.iova + start, area.pages.memory, random.random() < 0.5
    return steps.PinRange(f"pin{number}", access, iova, length, memory, offset, write)


def _unpin(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.UnpinRange(random.choice(list(model.pins))) if model.pins else None


def _huge_pages(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.SetHugePages(random.choice(steps.IOASES), random.random() < 0.6)


def _allow_iovas(model: IommufdModel, random: Random, number: int) -> Operation | None:
    count = random.choice([0, 0, 1, 2])
    bounds = sorted(APERTURE.start + page * CPU_PAGE for page in random.sample(range(_IOVA_PAGES), 2 * count))
    if random.random() < 0.1:
        bounds = [0, APERTURE.start]
    # adjacent, or overlapping
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    if random.random() < 0.1:
        pairs = zip(bounds[: len(bounds) // 2], bounds[len(bounds) // 2 :], strict=True)
    return steps.AllowIovas(random.choice(steps.IOASES), tuple(IovaRange(first, last - 1) for first, last in pairs))


def _reserve(model: IommufdModel, random: Random, number: int) -> Operation | None:
    iova = APERTURE.start + random.randrange(_IOVA_PAGES) * CPU_PAGE
    return steps.Reserve(random.choice(steps.IOASES), iova, CPU_PAGE)


def _limit_memory(model: IommufdModel, random: Random, number: int) -> Operation | None:
    return steps.LimitMemory(random.choice([16, 64, None]))


def _area(model: IommufdModel, random: Random, ioas: str) -> IoptArea | None:
    areas = model.ioases[ioas].areas
    return random.choice(areas) if areas else None


def _start(area: IoptArea, random: Random) -> int:
    start = random.choice([0, 0, PAGE_BYTES, CPU_PAGE])
    return start if start < area.length else 0


def _iova(random: Random) -> int | None:
    kind = random.random()
    if kind < 0.3:
        return None
    if kind < 0.34:
        return random.choice(_ODD_IOVAS)
    pages = random.randrange(_IOVA_PAGES) * CPU_PAGE
    return APERTURE.start + pages + (PAGE_BYTES if kind < 0.45 else 0)


def _length(random: Random) -> int:
    kind = random.random()
    if kind < 0.04:
        return random.choice(_ODD_LENGTHS)
    return random.randint(1, 8) * (PAGE_BYTES if kind < 0.2 else CPU_PAGE)


_WEIGHTS: tuple[tuple[Callable[[IommufdModel, Random, int], Operation | None], int], ...] = (
    (_map, 30),
    (_copy, 16),
    (_unmap, 20),
    (_unmap_all, 1),
    (_alloc_hwpt, 4),
    (_close_hwpt, 3),
    (_attach, 6),
    (_detach, 4),
    (_open_access, 3),
    (_close_access, 2),
    (_replace_access, 2),
    (_pin, 10),
    (_unpin, 6),
    (_huge_pages, 3),
    (_allow_iovas, 2),
    (_reserve, 1),
    (_limit_memory, 1),
)
