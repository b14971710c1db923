# SPDX-License-Identifier: MIT
"""Long random walks: after every step the kernel's mappings, pins, IOVA ranges and VmPin are those of the model.

pytest tests/mock/test_model.py --seed 7 --steps 20000
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from iommufd_py import Iommufd, IovaRange
from tests.conftest import need_ioctl, need_mock_driver
from tests.mock import steps
from tests.mock.areas import IoptArea, Pages
from tests.mock.model import IommufdModel, Refused
from tests.mock.walk import Divergence, checks_pieces, iova_granule, shortened, walk
from tests.waiting import patience

# Steps.
CAUGHT_WITHIN = 2000


@pytest.fixture(autouse=True)
def _kernel(iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")


def new(model: type[IommufdModel]) -> IommufdModel:
    return model(steps.IOASES, steps.DEVICES, iova_granule(), checks_pieces=checks_pieces())


def test_the_kernel_does_what_the_model_does(request: pytest.FixtureRequest) -> None:
    seed, count = request.config.getoption("seed"), request.config.getoption("steps")
    made, found = walk(seed, count, lambda: new(IommufdModel))
    if found is not None:
        short = shortened(found, lambda: new(IommufdModel))
        pytest.fail(
            f"--seed {seed}: kernel and model differ at step {made}; reproduce with\n\n{short.script()}", pytrace=False
        )
    assert made == count


class UnmapsParts(IommufdModel):
    """Accepts an unmap that covers a part of a mapping."""

    def _unmap(self, ioas: str, span: IovaRange) -> int:
        areas = self.ioases[ioas].overlapping(span)
        if areas:
            span = IovaRange(min(span.start, areas[0].iova), max(span.last, areas[-1].span.last))
        return super()._unmap(ioas, span)


class UnmapsAllOrNothing(IommufdModel):
    """Unmaps nothing if an unmap is refused."""

    def _unmap(self, ioas: str, span: IovaRange) -> int:
        areas = list(self.ioases[ioas].areas)
        try:
            return super()._unmap(ioas, span)
        except Refused:
            self.ioases[ioas].areas = areas
            raise


class CopiesPages(IommufdModel):
    """Gives a copy separate pages, so that they are pinned again."""

    def _shared(self, pages: Pages) -> Pages:
        return replace(pages)


class CopiesMoreThanItMay(IommufdModel):
    """Allows a writable copy of a read-only mapping."""

    def _insert(
        self, ioas: str, pieces: list[tuple[Pages, int, int]], iova: int | None, readable: bool, writable: bool
    ) -> int:
        return super()._insert(ioas, pieces, iova, readable, writable and all(pages.writable for pages, _, _ in pieces))


class IgnoresHugePages(IommufdModel):
    """Ignores the rule that without huge pages everything is aligned to the CPU's page."""

    def alignment(self, ioas: str) -> int:
        self.ioases[ioas].huge_pages, kept = True, self.ioases[ioas].huge_pages
        try:
            return super().alignment(ioas)
        finally:
            self.ioases[ioas].huge_pages = kept


class ChoosesReserved(IommufdModel):
    """Chooses an IOVA without respect to reserved ranges."""

    def _taken(self, ioas: str) -> list[IovaRange]:
        return [area.span for area in self.ioases[ioas].areas]


class MapsOverMapped(IommufdModel):
    """Maps at an IOVA that is mapped already."""

    def _check_free(self, ioas: str, iova: int, length: int) -> None:
        try:
            super()._check_free(ioas, iova, length)
        except Refused as refusal:
            if str(refusal) != "EEXIST":
                raise


class HasNoAperture(IommufdModel):
    """Ignores the aperture of a domain."""

    def reserved(self, ioas: str) -> list[IovaRange]:
        return self.ioases[ioas].reserved


class KeepsPinsOnDetach(IommufdModel):
    """Keeps pages pinned after a device is detached."""

    left: Mapping[Pages, set[int]] = {}

    def detach(self, device: str) -> None:
        self.left = self.pinned()
        super().detach(device)

    def pinned(self) -> dict[Pages, set[int]]:
        held = super().pinned()
        for pages, numbers in self.left.items():
            held[pages] |= numbers
        return held


class CountsNoAccessPins(IommufdModel):
    """Counts pins by domains only, not by accesses."""

    def pinned(self) -> dict[Pages, set[int]]:
        pins, self.pins = self.pins, type(self.pins)()
        try:
            return super().pinned()
        finally:
            self.pins = pins


class CountsEveryPin(IommufdModel):
    """Counts a page once for each area and each access that has it."""

    def pin_counts(self, memory: str) -> Counter[int]:
        counts: Counter[int] = Counter()
        for name, ioas in self.ioases.items():
            for area in ioas.areas if self.domains(name) else ():
                counts.update(area.page_numbers() if area.pages.memory == memory else ())
        for pin in self.pins.values():
            for pages, numbers in pin.held:
                counts.update(numbers if pages.memory == memory else ())
        return counts


class KeepsPinsOnUnmap(IommufdModel):
    """Keeps pins of accesses when the range is unmapped."""

    def _remove(self, ioas: str, area: IoptArea) -> None:
        self.ioases[ioas].areas.remove(area)


class PinsWhatIsNotReadable(IommufdModel):
    """Pins pages without a check of the access rights."""

    def pin(self, name: str, access: str, iova: int, length: int, memory: str, offset: int, write: bool) -> None:
        try:
            super().pin(name, access, iova, length, memory, offset, write)
        except Refused as refusal:
            if str(refusal) != "EPERM":
                raise


WRONG = [
    UnmapsParts,
    UnmapsAllOrNothing,
    CopiesPages,
    CopiesMoreThanItMay,
    IgnoresHugePages,
    ChoosesReserved,
    MapsOverMapped,
    HasNoAperture,
    KeepsPinsOnDetach,
    CountsNoAccessPins,
    CountsEveryPin,
    KeepsPinsOnUnmap,
    PinsWhatIsNotReadable,
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda model: model.__name__)
def test_a_wrong_model_is_caught(wrong: type[IommufdModel]) -> None:
    made, found = walk(0, CAUGHT_WITHIN, lambda: new(wrong))
    print(f"caught at step {made}")
    assert found is not None


def test_a_divergence_becomes_a_short_script_that_fails_so(tmp_path: Path) -> None:
    _, found = walk(0, CAUGHT_WITHIN, lambda: new(CopiesPages))
    assert isinstance(found, Divergence)
    short = shortened(found, lambda: new(CopiesPages))
    # a mapping, its copy, and a domain on each IOAS
    assert len(short.operations) <= 4
    script = tmp_path / "reproduce.py"
    script.write_text(short.script())
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=patience(120), check=False)
    assert ran.returncode == 1
    assert str(short.lines[-1]).splitlines()[-1].strip() in ran.stderr
