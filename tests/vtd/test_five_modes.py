# SPDX-License-Identifier: MIT
"""One random walk in each of the five container modes, on one device: `pytest ... --steps N --seed S` repeats it."""

import random
import re
from pathlib import Path

import pytest

from iommufd_py import ContainerMode, DmaBuffer, IovaRanges, vtd
from iommufd_py.dma import open_engine
from iommufd_py.testing.requirements import need_container
from tests.vtd.dma import await_fault_log
from tests.vtd.five_modes import (
    BASE,
    MANNERS,
    PAGE,
    PAGES,
    Answer,
    Bisected,
    ContainerCall,
    ContainerModel,
    execute_call,
    random_calls,
    reached,
    script,
)

# Number of steps between two checks of the IOMMU and the account of pinned memory.
LOOK_EVERY = 25


def accounted() -> int:
    """Return the pinned bytes of this process. type1 counts them as locked, iommufd as pinned."""
    status = Path("/proc/self/status").read_text()
    return sum(int(number) << 10 for number in re.findall(r"^Vm(?:Lck|Pin):\s+(\d+) kB$", status, re.MULTILINE))


def chosen(model: ContainerModel, seed: int) -> list[int]:
    """Return a mapped page and an unmapped page, if they exist."""
    chance = random.Random(seed)
    groups = sorted(model.pages), sorted(frozenset(range(PAGES)) - model.pages)
    return [chance.choice(group) for group in groups if group]


@pytest.fixture(scope="module")
def ranges() -> dict[ContainerMode, IovaRanges]:
    return {}


@pytest.mark.expect_kernel_log("(?i)fault")  # The IOMMU stops the device's writes to unmapped pages.
@pytest.mark.parametrize("mode", ContainerMode, ids=str)
def test_walk(
    bdf: str, mode: ContainerMode, ranges: dict[ContainerMode, IovaRanges], pytestconfig: pytest.Config
) -> None:
    await_fault_log()
    seed, count = pytestconfig.getoption("seed"), pytestconfig.getoption("steps")
    model = ContainerModel(MANNERS[mode])
    taken: list[ContainerCall] = []
    before = accounted()

    def differs(what: str) -> str:
        replay = script(bdf, mode, taken[-60:])
        return f"{mode}, --seed {seed}, step {len(taken)}: {what} (known: {model.manners})\n\n{replay}"

    with need_container(mode, bdf) as container, DmaBuffer(PAGES * PAGE) as buffer:
        ranges[mode] = container.iova_ranges()
        engine = open_engine(container.device, container)
        own = accounted() - before
        for step in random_calls(seed, count):
            taken.append(step)
            expected, got = model.take(step), execute_call(container, buffer, step)
            assert got == expected, differs(f"{step} came to {got} instead of {expected}")
            if len(taken) % LOOK_EVERY == 0 or len(taken) == count:
                leaves = vtd.leaf_sizes(bdf, BASE, PAGES * PAGE)
                wanted = {PAGE: len(model.pages)} if model.pages else {}
                assert leaves in (None, wanted), differs(f"the leaves are {leaves} instead of {wanted}")
                bytes_pinned = accounted() - before - own
                assert bytes_pinned == len(model.pages) * PAGE, differs(f"{bytes_pinned:#x} bytes are pinned")
                for page in chosen(model, len(taken)):
                    got_page = reached(engine, buffer, page)
                    wanted_page = page if page in model.pages else None
                    assert got_page == wanted_page, differs(
                        f"a write of the device to {BASE + page * PAGE:#x} reached page {got_page} of the buffer "
                        f"instead of {wanted_page}"
                    )
        container.unmap_all()
        assert accounted() == before, differs("not all is unpinned after unmap_all")
    first = next(iter(ranges.values()))
    assert container.device.closed
    assert all(one.ranges == first.ranges for one in ranges.values()), f"the IOVA ranges differ: {ranges}"


@pytest.mark.parametrize(
    ("bisected", "answer", "left"),
    [
        (Bisected.REFUSED, Answer(22), {0: 4, 4: 4}),
        (Bisected.REFUSED_LATE, Answer(2), {4: 4}),
        (Bisected.BY_ITS_START, Answer(0, 8 * PAGE), {}),
        (Bisected.CUT, Answer(0, 6 * PAGE), {6: 2}),
    ],
)
def test_an_unmap_that_ends_inside_a_mapping(bisected: Bisected, answer: Answer, left: dict[int, int]) -> None:
    """The differences between the modes, each by an example without a device."""
    (manners,) = {one for one in MANNERS.values() if one.bisected is bisected and not one.empty}
    model = ContainerModel(manners, {0: 4, 4: 4})
    assert model.take(ContainerCall(False, 0, 6)) == answer
    assert model.mapped == left
