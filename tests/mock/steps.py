# SPDX-License-Identifier: MIT
"""The operations and checks of a model test. Each is a line of Python that uses the public API.

A failure prints exactly the line that ran.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from iommufd_py import IovaRange, IovaRanges, MapFlags
from iommufd_py.mock import PAGE_BYTES
from tests.mock.areas import CPU_PAGE, IoptArea
from tests.mock.model import IommufdModel, Refused

# The number of mapped bytes of each buffer. The buffers start at multiples of it.
SPAN = 32 * CPU_PAGE

IOASES = ("ioas0", "ioas1", "ioas2")
DEVICES = ("device0", "device1")
MEMORIES = ("buffer", "memfd")

PRELUDE = f"""\
from contextlib import contextmanager

from iommufd_py import Backing, DmaBuffer, Iommufd, IommufdError, IovaRange, IovaRanges
from iommufd_py import MapFlags, MockAccess, MockDevice
from iommufd_py.mock import add_reserved, check_map, check_refs, limit_memory
from iommufd_py.host import pinned_bytes


@contextmanager
def refused(name):
    try:
        yield
    except IommufdError as failure:
        assert failure.errno_name == name, f"{{name}} expected, got {{failure}}"
    else:
        raise AssertionError(f"{{name}} expected, but it was accepted")


before = pinned_bytes()
iommufd = Iommufd()
buffer = DmaBuffer({2 * SPAN:#x})
buffer_va = -(-buffer.user_va // {SPAN:#x}) * {SPAN:#x}
memfd = DmaBuffer({SPAN:#x}, Backing.MEMFD)
memfd_va = memfd.user_va
{", ".join(IOASES)} = (iommufd.alloc_ioas() for _ in range({len(IOASES)}))
{", ".join(DEVICES)} = (MockDevice(iommufd) for _ in range({len(DEVICES)}))
"""


@dataclass(frozen=True, slots=True)
class CheckedLine:
    """A line of Python, and its required result.

    Attributes:
        source: an expression, or an assignment.
        value: required value of the expression; None for any.
        error: name of the errno with which it must fail; empty if it must not.
    """

    source: str
    value: object = None
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f'with refused("{self.error}"):\n    {self.source}'
        return self.source if self.value is None else f"assert {self.source} == {as_expression(self.value)}"


class Operation:
    """An operation on an iommufd: a method of the model, and a line for the kernel."""

    __slots__ = ()

    @property
    def source(self) -> str:
        raise NotImplementedError

    def apply(self, model: IommufdModel) -> object:
        """Apply the operation to the model; return what the kernel must return.

        Raises:
            Refused: the kernel must refuse the operation.
            NotApplicable: the model does not predict the answer.
        """
        raise NotImplementedError

    def line(self, model: IommufdModel) -> CheckedLine:
        """Apply the operation to the model, and return its line with the required result."""
        try:
            return CheckedLine(self.source, self.apply(model))
        except Refused as refusal:
            return CheckedLine(self.source, error=str(refusal))


@dataclass(frozen=True, slots=True)
class MapPages(Operation):
    ioas: str
    memory: str
    offset: int
    length: int
    iova: int | None
    flags: MapFlags

    @property
    def source(self) -> str:
        call = (
            f"map_user_va(buffer_va + {self.offset:#x}"
            if self.memory == "buffer"
            else f"map_fd(memfd.fd, {self.offset:#x}"
        )
        return f"{self.ioas}.{call}, {self.length:#x}, {_optional(self.iova)}, flags=MapFlags.{self.flags.name})"

    def apply(self, model: IommufdModel) -> object:
        flags = bool(self.flags & MapFlags.READABLE), bool(self.flags & MapFlags.WRITEABLE)
        return model.map(self.ioas, self.memory, self.offset, self.length, self.iova, *flags)


@dataclass(frozen=True, slots=True)
class Copy(Operation):
    ioas: str
    from_ioas: str
    from_iova: int
    length: int
    iova: int | None
    flags: MapFlags

    @property
    def source(self) -> str:
        where = f"{self.from_ioas}, {self.from_iova:#x}, {self.length:#x}, {_optional(self.iova)}"
        return f"{self.ioas}.copy_iova({where}, flags=MapFlags.{self.flags.name})"

    def apply(self, model: IommufdModel) -> object:
        flags = bool(self.flags & MapFlags.READABLE), bool(self.flags & MapFlags.WRITEABLE)
        return model.copy(self.ioas, self.from_ioas, self.from_iova, self.length, self.iova, *flags)


@dataclass(frozen=True, slots=True)
class UnmapRange(Operation):
    ioas: str
    iova: int
    length: int

    @property
    def source(self) -> str:
        return f"{self.ioas}.unmap({self.iova:#x}, {self.length:#x})"

    def apply(self, model: IommufdModel) -> object:
        return model.unmap(self.ioas, self.iova, self.length)


@dataclass(frozen=True, slots=True)
class UnmapAll(Operation):
    ioas: str

    @property
    def source(self) -> str:
        return f"{self.ioas}.unmap_all()"

    def apply(self, model: IommufdModel) -> object:
        return model.unmap_all(self.ioas)


@dataclass(frozen=True, slots=True)
class AllocHwpt(Operation):
    name: str
    device: str
    ioas: str

    @property
    def source(self) -> str:
        return f"{self.name} = {self.device}.alloc_hwpt({self.ioas})"

    def apply(self, model: IommufdModel) -> None:
        model.alloc_hwpt(self.name, self.ioas)


@dataclass(frozen=True, slots=True)
class CloseHwpt(Operation):
    name: str

    @property
    def source(self) -> str:
        return f"{self.name}.close()"

    def apply(self, model: IommufdModel) -> None:
        model.close_hwpt(self.name)


@dataclass(frozen=True, slots=True)
class Attach(Operation):
    device: str
    target: str

    @property
    def source(self) -> str:
        return f"{self.device}.attach({self.target})"

    def apply(self, model: IommufdModel) -> None:
        model.attach(self.device, self.target)


@dataclass(frozen=True, slots=True)
class Detach(Operation):
    device: str

    @property
    def source(self) -> str:
        return f"{self.device}.detach()"

    def apply(self, model: IommufdModel) -> None:
        model.detach(self.device)


@dataclass(frozen=True, slots=True)
class OpenAccess(Operation):
    name: str
    ioas: str

    @property
    def source(self) -> str:
        return f"{self.name} = MockAccess({self.ioas}, pins=True)"

    def apply(self, model: IommufdModel) -> None:
        model.open_access(self.name, self.ioas)


@dataclass(frozen=True, slots=True)
class CloseAccess(Operation):
    name: str

    @property
    def source(self) -> str:
        return f"{self.name}.close()"

    def apply(self, model: IommufdModel) -> None:
        model.close_access(self.name)


@dataclass(frozen=True, slots=True)
class ReplaceAccess(Operation):
    name: str
    ioas: str

    @property
    def source(self) -> str:
        return f"{self.name}.replace({self.ioas})"

    def apply(self, model: IommufdModel) -> None:
        model.replace_access(self.name, self.ioas)


@dataclass(frozen=True, slots=True)
class PinRange(Operation):
    name: str
    access: str
    iova: int
    length: int
    memory: str
    offset: int
    write: bool

    @property
    def source(self) -> str:
        where = f"{self.iova:#x}, {self.length:#x}, {_address(self.memory, self.offset)}"
        return f"{self.name} = {self.access}.pin({where}, write={self.write})"

    def apply(self, model: IommufdModel) -> None:
        model.pin(self.name, self.access, self.iova, self.length, self.memory, self.offset, self.write)


@dataclass(frozen=True, slots=True)
class UnpinRange(Operation):
    name: str

    @property
    def source(self) -> str:
        return f"{self.name}.unpin()"

    def apply(self, model: IommufdModel) -> None:
        model.unpin(self.name)


@dataclass(frozen=True, slots=True)
class SetHugePages(Operation):
    ioas: str
    allowed: bool

    @property
    def source(self) -> str:
        return f"{self.ioas}.huge_pages = {self.allowed}"

    def apply(self, model: IommufdModel) -> None:
        model.set_huge_pages(self.ioas, self.allowed)


@dataclass(frozen=True, slots=True)
class AllowIovas(Operation):
    ioas: str
    ranges: tuple[IovaRange, ...]

    @property
    def source(self) -> str:
        return f"{self.ioas}.allow_iovas([{', '.join(map(_iova_range, self.ranges))}])"

    def apply(self, model: IommufdModel) -> None:
        model.allow_iovas(self.ioas, self.ranges)


@dataclass(frozen=True, slots=True)
class Reserve(Operation):
    ioas: str
    iova: int
    length: int

    @property
    def source(self) -> str:
        return f"add_reserved({self.ioas}, {self.iova:#x}, {self.length:#x})"

    def apply(self, model: IommufdModel) -> None:
        model.reserve(self.ioas, self.iova, self.length)


@dataclass(frozen=True, slots=True)
class LimitMemory(Operation):
    """Limit the batches of the kernel, which must not change any result."""

    byte_limit: int | None

    @property
    def source(self) -> str:
        return f"limit_memory(iommufd, {self.byte_limit})"

    def apply(self, model: IommufdModel) -> None:
        return None


def checks(model: IommufdModel, gone: Iterable[tuple[str, IoptArea]] = ()) -> Iterator[CheckedLine]:
    """Yield the checks of the present state; no domain may translate the areas in *gone* (by IOAS) any more."""
    yield CheckedLine("pinned_bytes() - before", model.pinned_bytes())
    for memory in MEMORIES:
        counts = model.pin_counts(memory)
        for pins, run in groupby(range(SPAN // CPU_PAGE), key=counts.__getitem__):
            pages = list(run)
            address = _address(memory, pages[0] * CPU_PAGE)
            yield CheckedLine(f"check_refs(iommufd, {address}, {len(pages) * CPU_PAGE:#x}, {pins})")
    for ioas in model.ioases:
        yield CheckedLine(f"{ioas}.iova_ranges()", IovaRanges(tuple(model.iova_ranges(ioas)), model.alignment(ioas)))
        for hwpt in map(_hwpt_id, model.domains(ioas)):
            for area in model.ioases[ioas].areas:
                address = _address(area.pages.memory, area.offset)
                yield CheckedLine(f"check_map(iommufd, {hwpt}, {area.iova:#x}, {area.length:#x}, {address})")
    for ioas, area in gone:
        address = _address(area.pages.memory, area.offset)
        if not model.ioases[ioas].overlapping(area.span):
            for hwpt in map(_hwpt_id, model.domains(ioas)):
                yield CheckedLine(
                    f"check_map(iommufd, {hwpt}, {area.iova:#x}, {PAGE_BYTES:#x}, {address})", error="EINVAL"
                )


def _hwpt_id(domain: str) -> str:
    return f"{domain}.attachments[None].hwpt_id" if domain in DEVICES else f"{domain}.id"


def _address(memory: str, offset: int) -> str:
    return f"{memory}_va + {offset:#x}"


def _optional(iova: int | None) -> str:
    return "None" if iova is None else f"{iova:#x}"


def _iova_range(one: IovaRange) -> str:
    return f"IovaRange({one.start:#x}, {one.last:#x})"


def as_expression(value: object) -> str:
    """Return *value* as a Python expression."""
    if isinstance(value, IovaRanges):
        ranges = "".join(f"{_iova_range(one)}, " for one in value.ranges)
        return f"IovaRanges(({ranges.rstrip()}), {value.alignment})"
    return f"{value:#x}" if isinstance(value, int) else repr(value)
