# SPDX-License-Identifier: MIT
"""Wrong arguments of calls that need no /dev/iommu: the check comes before the first ioctl."""

import gc
import inspect
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path

import pytest

from iommufd_py import (
    Backing,
    Container,
    ContainerMode,
    DirtyTracking,
    DmaBuffer,
    FaultQueue,
    GenericVfioDevice,
    HwptData,
    HwptDataType,
    Ioas,
    IoasContainer,
    Iommufd,
    IovaRange,
    IovaRanges,
    MapFlags,
    MockAccess,
    MockDevice,
    Type1Container,
    VfioDevice,
    VfioPciDevice,
    VtdStage1Flags,
    api,
    flush_count,
    open_container,
    vtd_stage1,
    vtd_stage1_invalidation,
)
from iommufd_py.base.errors import ArgumentTypeError, ArgumentValueError, BackingError, ToolError
from iommufd_py.mock import parse_viommu_data
from iommufd_py.objects.buffer import pool_remedy
from iommufd_py.objects.ioas import _map_arguments
from iommufd_py.objects.mapping import Mapping, MappingSpace
from iommufd_py.objects.resource import Resource
from tests.bad_values import ADDRESS, BOOL, BYTES, FLAGS, INT32, OBJECT, TEXT, Case, hold
from tests.open_files import TOO_MANY, no_descriptor_left

PAGE = 4096
RANGE = IovaRange(0, PAGE - 1)
NOWHERE = Path("/nowhere")


@pytest.mark.parametrize(
    "case",
    [
        Case(
            DmaBuffer,
            {"length": ADDRESS, "backing": OBJECT, "prefault": BOOL, "node": INT32},
            {"length": PAGE, "backing": Backing.ANON_4K},
        ),
        Case(Iommufd, {"path": TEXT}, {}),
        Case(Iommufd.adopt, {"fd": ADDRESS}, {}),
        Case(Ioas, {"iommufd": OBJECT}, {}),
        Case(FaultQueue, {"iommufd": OBJECT}, {}),
        Case(DirtyTracking, {"hwpt": OBJECT}, {}),
        Case(MockDevice, {"iommufd": OBJECT}, {}),
        Case(MockAccess, {"ioas": OBJECT}, {}),
        Case(VfioDevice, {"iommufd": OBJECT}, {"bdf": "0000:00:01.0"}),
        Case(flush_count, {"iommufd": OBJECT}, {}),
        Case(open_container, {"mode": OBJECT, "bdf": TEXT}, {"mode": ContainerMode.IOMMUFD, "bdf": "0000:00:01.0"}),
        Case(IoasContainer, {"bdf": TEXT}, {}),
        Case(
            Type1Container,
            {"bdf": TEXT, "iommu_type": OBJECT, "path": OBJECT, "group": ADDRESS},
            {"bdf": None, "path": NOWHERE},
        ),
        Case(IovaRange, {"start": ADDRESS, "last": ADDRESS}, {"start": 0, "last": PAGE}),
        Case(RANGE.first_fit, {"length": ADDRESS, "alignment": ADDRESS}, {"length": 1, "alignment": 1}),
        Case(RANGE.overlaps, {"other": OBJECT}, {}),
        Case(IovaRanges, {"ranges": OBJECT, "alignment": ADDRESS}, {"ranges": (RANGE,), "alignment": PAGE}),
        Case(HwptData, {"type": INT32, "content": BYTES}, {"type": HwptDataType.VTD_S1, "content": b""}),
        Case(
            vtd_stage1,
            {"page_table": ADDRESS, "address_width": INT32, "flags": FLAGS},
            {"page_table": PAGE, "address_width": 48, "flags": VtdStage1Flags.WPE},
        ),
        Case(vtd_stage1_invalidation, {"iova": ADDRESS, "pages": ADDRESS}, {"iova": 0, "pages": 1}),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_in_one_sentence(case: Case) -> None:
    hold(case)


def test_a_structure_that_is_cut_off_is_refused() -> None:
    with pytest.raises(ArgumentValueError, match="3 bytes are too few for a struct iommu_viommu_selftest, which has"):
        parse_viommu_data(b"abc")


def test_a_word_stands_for_its_kind_of_memory() -> None:
    with DmaBuffer(PAGE, "memfd") as buffer:  # type: ignore[arg-type]
        assert buffer.backing is Backing.MEMFD
    with pytest.raises(ArgumentValueError, match=r"backing must be one of '4k', 'thp', .*, not 'huge'"):
        DmaBuffer(PAGE, "huge")  # type: ignore[arg-type]


def test_the_message_names_the_refused_argument() -> None:
    with pytest.raises(BackingError, match="0x8000000000000000 bytes does not fit"):
        DmaBuffer(1 << 63)
    with pytest.raises(ArgumentTypeError, match=r"MockDevice\(\): iommufd must be an Iommufd, not None"):
        MockDevice(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"open_container\(\): mode must be one of 'vfio_type1', .*, not None"):
        open_container(None, None)  # type: ignore[arg-type]
    with pytest.raises(ToolError, match="/dev/null is not an iommufd: open /dev/iommu"):
        Iommufd("/dev/null")
    with pytest.raises(ValueError, match="pgtbl_addr must be from 0 to 0xffffffffffffffff, not -4096"):
        vtd_stage1(-4096, 48)
    with DmaBuffer(PAGE) as buffer, pytest.raises(ValueError, match="8192 bytes from offset 0 are not inside"):
        buffer.check_range(0, 2 * PAGE)


def test_an_offset_outside_is_named_without_a_negative_length() -> None:
    with DmaBuffer(PAGE) as buffer, pytest.raises(ValueError, match=r"^offset 0x10000 is not inside DmaBuffer"):
        buffer.check_range(1 << 16, PAGE - (1 << 16))


class BareSpace(MappingSpace):
    """A space without a kernel: its mappings are only registered."""

    def __init__(self) -> None:
        super().__init__()
        self._mark_open()

    def _release(self) -> None:
        pass


@pytest.mark.parametrize(("offset", "length"), [(0, 2 * PAGE + 1), (PAGE, 2 * PAGE), (-PAGE, PAGE), (3 * PAGE, 0)])
def test_a_range_behind_a_mapping_is_named(offset: int, length: int) -> None:
    """A copy of it would be a copy of what is mapped there, and would outlive its memory."""
    with BareSpace() as space, DmaBuffer(4 * PAGE) as buffer:
        mapping = Mapping(space, buffer, 1 << 32, 2 * PAGE, 0, MapFlags.READ_WRITE)
        mapping.check_range(PAGE, PAGE)
        with pytest.raises(ArgumentValueError, match=r"(is|are) not inside Mapping\(iova=0x100000000, length=8K\)"):
            mapping.check_range(offset, length)
        mapping._mark_closed()


def test_a_limit_of_open_files_is_named_with_its_remedy() -> None:
    with DmaBuffer(PAGE) as buffer, no_descriptor_left():
        for call in (
            lambda: Iommufd("/dev/null"),
            lambda: DmaBuffer(PAGE, Backing.MEMFD),
            lambda: DmaBuffer(PAGE, Backing.FRAGMENTED_1),
            buffer.frames,
            buffer.physical_runs,
            buffer.huge_bytes,
            lambda: pool_remedy(2 << 20, 2 << 20, Path("/sys/kernel/mm/hugepages/hugepages-2048kB")),
        ):
            with pytest.raises(ToolError, match=TOO_MANY):
                call()


@pytest.mark.parametrize("backing", [Backing.ANON_4K, Backing.THP, Backing.MEMFD])
def test_memory_that_is_in_no_pool_has_no_remedy_for_a_pool(backing: Backing) -> None:
    """Transparent huge pages are made when they are needed; nr_hugepages has no effect on them."""
    with pytest.raises(BackingError, match=r"no .* memory of 1048576T: .*; ask for less$|huge pages are off"):
        DmaBuffer(1 << 60, backing)


def test_the_public_call_is_named() -> None:
    with DmaBuffer(PAGE) as buffer, pytest.raises(TypeError, match=r"^Ioas.map\(\): iova must be an int or None"):
        _map_arguments(buffer, 1.5, 0, None, MapFlags.READ_WRITE)  # type: ignore[arg-type]


def _made_by_others() -> list[type]:
    """Return the public classes that stand on other objects, or that only have subclasses to be made."""
    kinds = [one for one in vars(api).values() if inspect.isclass(one) and one.__name__ in api.__all__]
    plain = [one for one in kinds if not (issubclass(one, (Enum, Exception)) or is_dataclass(one))]
    return [one for one in plain if inspect.isabstract(one) or _required(one)]


def _required(kind: type) -> int:
    parameters = inspect.signature(kind).parameters.values()
    return sum(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)


@pytest.mark.parametrize("kind", _made_by_others(), ids=lambda kind: kind.__name__)
def test_an_object_made_by_hand_is_refused_in_one_sentence(kind: type, recwarn: pytest.WarningsRecorder) -> None:
    """Many classes are made by a method of another object. A program that makes them from nothing learns so."""
    abstract = kind in (Container, GenericVfioDevice, VfioPciDevice)
    reason = "instantiate abstract class" if abstract else r"must be (an?|one of) |is made by map"
    with pytest.raises(TypeError, match=reason):
        kind(*[object()] * _required(kind))
    gc.collect()
    assert not recwarn.list


def test_every_public_call_checks_its_arguments() -> None:
    """Each call has @checked, or is one of the few that check by themselves because programs call them in loops."""
    by_hand = {
        "Ioas.map", "Ioas.unmap", "Mappable.check_range", "MockAccess.read", "MockAccess.write",
        "RegionMapping.read_int", "RegionMapping.write_int",
    }  # fmt: skip
    abstract = {"Container.open_device", "Container.map_user_va", "Container.unmap"}
    unchecked = set()
    for name in api.__all__:
        kind = getattr(api, name)
        if not (inspect.isclass(kind) and issubclass(kind, Resource)):
            continue
        for method, function in inspect.getmembers(kind, inspect.isfunction):
            if method.startswith("_") or "__wrapped__" in vars(function):
                continue
            if len(inspect.signature(function).parameters) > 1:
                unchecked.add(function.__qualname__)
    assert unchecked == by_hand | abstract
