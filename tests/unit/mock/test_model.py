# SPDX-License-Identifier: MIT
"""Parts of the model test without a kernel: examples and invariants of the model, and the shortening of walks."""

from collections.abc import Callable

import pytest

from iommufd_py import IovaRange
from iommufd_py.mock import APERTURE
from tests.mock import steps
from tests.mock.areas import CPU_PAGE, LAST, holes
from tests.mock.model import IommufdModel, NotApplicable, Refused

PAGE = CPU_PAGE
HALF = PAGE // 2
BASE = APERTURE.start


@pytest.fixture
def model() -> IommufdModel:
    return IommufdModel(["ioas0", "ioas1"], ["device0", "device1"])


def mapped(
    model: IommufdModel,
    iova: int | None,
    pages: int = 1,
    *,
    ioas: str = "ioas0",
    offset: int = 0,
    writable: bool = True,
) -> int:
    return model.map(ioas, "buffer", offset, pages * PAGE, iova, True, writable)


def refused(error: str, function: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(Refused) as caught:
        function(*arguments)
    assert str(caught.value) == error


def test_holes() -> None:
    used = [IovaRange(20, 29), IovaRange(0, 4), IovaRange(25, 40), IovaRange(5, 9)]
    assert list(holes(used, IovaRange(0, 50))) == [IovaRange(10, 19), IovaRange(41, 50)]
    assert list(holes(used, IovaRange(22, 30))) == []
    assert list(holes([], IovaRange(0, LAST))) == [IovaRange(0, LAST)]


def test_pages_are_pinned_while_a_domain_has_them(model: IommufdModel) -> None:
    mapped(model, BASE, 3)
    assert model.pinned_bytes() == 0
    model.attach("device0", "ioas0")
    model.attach("device1", "ioas0")
    assert model.pin_counts("buffer") == {0: 1, 1: 1, 2: 1}
    model.detach("device0")
    assert model.pinned_bytes() == 3 * PAGE
    model.detach("device1")
    assert model.pinned_bytes() == 0


def test_a_copy_shares_pages_and_another_map_does_not(model: IommufdModel) -> None:
    model.alloc_hwpt("hwpt0", "ioas0")
    model.alloc_hwpt("hwpt1", "ioas1")
    mapped(model, BASE, 2)
    model.copy("ioas1", "ioas0", BASE + PAGE, PAGE, BASE, True, True)
    assert model.pin_counts("buffer") == {0: 1, 1: 1}
    mapped(model, BASE + 8 * PAGE)
    assert model.pin_counts("buffer") == {0: 2, 1: 1}
    model.unmap("ioas0", BASE, 2 * PAGE)
    assert model.pin_counts("buffer") == {0: 1, 1: 1}
    assert model.pinned_bytes() == 2 * PAGE


def test_pages_that_an_access_pins(model: IommufdModel) -> None:
    mapped(model, BASE, 3)
    model.open_access("access", "ioas0")
    model.pin("pin", "access", BASE + PAGE, PAGE, "buffer", PAGE, True)
    assert model.pin_counts("buffer") == {1: 1}
    # The other pages that a domain pins are pinned already.
    model.alloc_hwpt("hwpt", "ioas0")
    assert model.pin_counts("buffer") == {0: 1, 1: 1, 2: 1}
    model.unmap_all("ioas0")
    assert model.pinned_bytes() == 0
    refused("ENOENT", model.unpin, "pin")


def test_pins_are_refused(model: IommufdModel) -> None:
    mapped(model, BASE, writable=False)
    mapped(model, BASE + 2 * PAGE)
    model.open_access("access", "ioas0")
    refused("EPERM", model.pin, "pin", "access", BASE, PAGE, "buffer", 0, True)
    refused("ENOENT", model.pin, "pin", "access", BASE, 2 * PAGE, "buffer", 0, False)
    refused("EINVAL", model.pin, "pin", "access", BASE + HALF, HALF, "buffer", 0, False)
    refused("EBADE", model.pin, "pin", "access", BASE, PAGE, "buffer", PAGE, False)
    refused("EBADE", model.pin, "pin", "access", BASE, PAGE, "memfd", 0, False)


def test_an_access_leaves_its_pins_with_its_ioas(model: IommufdModel) -> None:
    mapped(model, BASE)
    model.open_access("access", "ioas0")
    model.pin("pin", "access", BASE, PAGE, "buffer", 0, False)
    model.replace_access("access", "ioas0")
    assert model.pinned_bytes() == PAGE
    model.replace_access("access", "ioas1")
    assert model.pinned_bytes() == 0
    assert (model.alignment("ioas0"), model.alignment("ioas1")) == (1, PAGE)


def test_alignment(model: IommufdModel) -> None:
    model.map("ioas0", "buffer", 1, 3, 5, True, True)
    refused("EADDRINUSE", model.alloc_hwpt, "hwpt", "ioas0")
    refused("EADDRINUSE", model.attach, "device0", "ioas0")
    refused("EADDRINUSE", model.open_access, "access", "ioas0")
    refused("EADDRINUSE", model.set_huge_pages, "ioas0", False)
    model.unmap_all("ioas0")
    model.alloc_hwpt("hwpt", "ioas0")
    assert model.alignment("ioas0") == HALF
    assert model.map("ioas0", "buffer", HALF, HALF, BASE, True, True) == BASE
    refused("EINVAL", model.set_huge_pages, "ioas0", False)
    model.unmap_all("ioas0")
    model.set_huge_pages("ioas0", False)
    assert model.alignment("ioas0") == PAGE
    refused("EINVAL", model.map, "ioas0", "buffer", HALF, PAGE, BASE, True, True)


def test_a_domain_has_an_aperture(model: IommufdModel) -> None:
    mapped(model, 0)
    refused("EADDRINUSE", model.attach, "device0", "ioas0")
    model.unmap_all("ioas0")
    model.attach("device0", "ioas0")
    assert model.iova_ranges("ioas0") == [IovaRange(APERTURE.start, APERTURE.last)]
    refused("EINVAL", mapped, model, 0)
    refused("EADDRINUSE", model.allow_iovas, "ioas0", [IovaRange(0, PAGE - 1)])
    model.detach("device0")
    assert model.iova_ranges("ioas0") == [IovaRange(0, LAST)]


def test_unmap(model: IommufdModel) -> None:
    for page in (0, 2, 4):
        mapped(model, BASE + page * PAGE, 2 if page == 4 else 1)
    refused("EINVAL", model.unmap, "ioas0", BASE, 0)
    refused("EOVERFLOW", model.unmap, "ioas0", LAST, 2)
    refused("ENOENT", model.unmap, "ioas0", BASE + PAGE, PAGE)
    refused("ENOENT", model.unmap, "ioas0", BASE + HALF, PAGE)
    # The kernel unmaps in ascending order, up to the area that reaches past the end.
    refused("ENOENT", model.unmap, "ioas0", BASE, 5 * PAGE)
    assert [area.iova for area in model.ioases["ioas0"].areas] == [BASE + 4 * PAGE]
    assert model.unmap("ioas0", 0, LAST) == 2 * PAGE
    assert model.unmap_all("ioas0") == 0


def test_the_iova_that_the_kernel_chooses(model: IommufdModel) -> None:
    assert mapped(model, None) == PAGE
    assert mapped(model, None, 4) == 4 * PAGE
    assert mapped(model, None, offset=PAGE) == 2 * PAGE
    model.reserve("ioas0", 3 * PAGE, PAGE)
    assert mapped(model, None) == 8 * PAGE
    # The IOVA keeps the offset in the page, and has no more alignment than the memory.
    assert model.map("ioas0", "buffer", HALF, 4 * PAGE, None, True, True) == 9 * PAGE + HALF
    model.allow_iovas("ioas0", [IovaRange(BASE, BASE + PAGE - 1), IovaRange(BASE + 8 * PAGE, BASE + 10 * PAGE - 1)])
    assert mapped(model, None, 2) == BASE + 8 * PAGE
    refused("ENOSPC", mapped, model, None, 2)
    refused("EADDRINUSE", model.attach, "device0", "ioas0")


def test_copies_are_refused(model: IommufdModel) -> None:
    mapped(model, BASE, writable=False)
    mapped(model, BASE + PAGE)
    refused("ENOENT", model.copy, "ioas1", "ioas0", BASE, 3 * PAGE, None, True, False)
    refused("ENOENT", model.copy, "ioas1", "ioas0", BASE - PAGE, 2 * PAGE, None, True, False)
    refused("EPERM", model.copy, "ioas1", "ioas0", BASE, 2 * PAGE, None, True, True)
    refused("EEXIST", model.copy, "ioas0", "ioas0", BASE, PAGE, BASE + PAGE, True, False)
    assert model.copy("ioas1", "ioas0", BASE, 2 * PAGE, BASE, True, False) == BASE
    assert [area.iova for area in model.ioases["ioas1"].areas] == [BASE, BASE + PAGE]


def test_a_copy_of_areas_that_are_aligned_only_together(model: IommufdModel) -> None:
    model.map("ioas0", "buffer", 0, HALF, BASE, True, True)
    model.map("ioas0", "buffer", PAGE, HALF, BASE + HALF, True, True)
    model.set_huge_pages("ioas1", allowed=False)
    refused("EINVAL", model.copy, "ioas1", "ioas0", BASE, PAGE, BASE, True, True)
    model.checks_pieces = False
    with pytest.raises(NotApplicable):
        model.copy("ioas1", "ioas0", BASE, PAGE, BASE, True, True)
    assert not model.ioases["ioas1"].areas


def test_operations_on_absent_objects_are_not_applicable(model: IommufdModel) -> None:
    for operation in (
        steps.CloseHwpt("hwpt"),
        steps.Attach("device0", "hwpt"),
        steps.ReplaceAccess("access", "ioas0"),
        steps.UnpinRange("pin"),
        steps.AllocHwpt("hwpt", "device0", "ioas9"),
    ):
        with pytest.raises(NotApplicable):
            operation.line(model)
