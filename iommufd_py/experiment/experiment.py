# SPDX-License-Identifier: MIT
"""A sequence of operations on an iommufd, as data: run step by step, each reported, all undone at the end.

So a bug report can say what to do instead of how it was done. ``iommufd map`` is such a sequence, and so is a script::

    schema = "iommufd-script/1"

    [[step]]
    do = "ioas"
    name = "a"

    [[step]]
    do = "buffer"
    name = "b"
    size = "2M"
    backing = "thp"

    [[step]]
    do = "map"
    name = "m"
    ioas = "a"
    buffer = "b"
    iova = "0x100000000"

    [[step]]
    do = "map"
    ioas = "a"
    buffer = "b"
    iova = "0x100000000"
    expect = "EEXIST"
"""

import errno
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import IommufdError, ToolError
from iommufd_py.base.units import parse_iova, parse_size
from iommufd_py.host import pinned_bytes
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.ioctl_trace import ioctl_trace
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.call import IoctlCall
from iommufd_py.uapi.enums import MapFlags
from iommufd_py.vtd import leaf_sizes

SCHEMA = "iommufd-script/1"

_ACCESS = {"r": MapFlags.READABLE, "w": MapFlags.WRITEABLE, "rw": MapFlags.READ_WRITE}
# Fields by operation: those it must have, those it may have. `expect` may be in any.
_FIELDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "ioas": (frozenset({"name"}), frozenset()),
    "hwpt": (frozenset({"name", "ioas"}), frozenset({"coherency"})),
    "attach": (frozenset({"to"}), frozenset()),
    "detach": (frozenset(), frozenset()),
    "buffer": (frozenset({"name", "size"}), frozenset({"backing"})),
    "map": (frozenset({"ioas", "buffer"}), frozenset({"name", "iova", "offset", "length", "access"})),
    "copy": (frozenset({"ioas", "from"}), frozenset({"name", "iova", "offset", "length", "access"})),
    "unmap": (frozenset(), frozenset({"mapping", "ioas", "iova", "length"})),
    "close": (frozenset({"what"}), frozenset()),
}

_R = TypeVar("_R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        do: which one.
        fields: what it needs, as written.
        expect: errno that it must fail with, as ``EEXIST``; empty when it must succeed.
    """

    do: str
    fields: Mapping[str, Any]
    expect: str = ""

    def __str__(self) -> str:
        shown = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.do} {shown}".strip()


@dataclass(frozen=True, slots=True)
class OperationOutcome:
    """What came of a step.

    Attributes:
        step: what was to be done.
        error: errno it failed with, as ``EEXIST``; empty for success.
        message: the error's text, empty for success.
        facts: what is to be known of what was made, by name.
        ioctls: all that were issued for it.
    """

    step: Operation
    error: str
    message: str
    facts: Mapping[str, Any]
    ioctls: tuple[IoctlCall, ...]

    @property
    def as_expected(self) -> bool:
        """Whether the step succeeded, or failed, as it was said to."""
        return self.error == self.step.expect


def parse_script(text: str) -> tuple[Operation, ...]:
    """Read a script in TOML.

    Raises:
        ToolError: it is no TOML, or a step is not one; the text says which.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        raise ToolError(f"the script is no TOML: {failure}") from None
    if document.get("schema") != SCHEMA:
        raise ToolError(f'the script has the schema {document.get("schema")!r}: write schema = "{SCHEMA}" at its top')
    unknown = sorted(set(document) - {"schema", "step"})
    if unknown or not isinstance(document.get("step"), list):
        raise ToolError(f"a script has [[step]] tables and nothing else; found: {', '.join(unknown) or 'no step'}")
    return tuple(_parse_step(number, dict(fields)) for number, fields in enumerate(document["step"], 1))


def _parse_step(number: int, fields: dict[str, Any]) -> Operation:
    do, expect = fields.pop("do", None), fields.pop("expect", "")
    if do not in _FIELDS:
        raise ToolError(f"step {number} does {do!r}: it can do {', '.join(_FIELDS)}")
    required, optional = _FIELDS[do]
    missing, unknown = sorted(required - set(fields)), sorted(set(fields) - required - optional)
    if missing or unknown:
        wrong = [f"lacks {name}" for name in missing] + [f"has the unknown {name}" for name in unknown]
        raise ToolError(f"step {number}, {do}, {' and '.join(wrong)}")
    if do == "unmap" and ("mapping" in fields) == bool({"ioas", "iova", "length"} & set(fields)):
        raise ToolError(f"step {number}, unmap, needs either a mapping, or ioas, iova and length")
    if expect and not hasattr(errno, expect):
        raise ToolError(f"step {number} expects {expect!r}, which is no errno: write one as in EEXIST")
    return Operation(do, fields, expect)


class Experiment:
    """Runs steps on an iommufd, with one device or none.

    Args:
        iommufd: what everything is made on; closing it undoes everything but the buffers, :meth:`close` those too.
        device: what HWPTs are made for and what is attached.
    """

    def __init__(self, iommufd: Iommufd, device: BoundDevice | None) -> None:
        self._iommufd = iommufd
        self._device = device
        self._things: dict[str, Resource] = {}

    def close(self) -> None:
        """Close what the steps made, newest first."""
        for thing in reversed(self._things.values()):
            thing.close()
        self._things.clear()

    def run(self, step: Operation) -> OperationOutcome:
        """Do one step.

        Raises:
            ToolError: it cannot be tried at all: a name stands for nothing, a number is none, or memory cannot be had.
        """
        calls: list[IoctlCall] = []
        error = message = ""
        facts: dict[str, Any] = {}
        with ioctl_trace(calls.append):
            try:
                facts = getattr(self, f"_{step.do}")(step.fields)
            except IommufdError as failure:
                error, message = failure.errno_name, str(failure)
            except ValueError as failure:
                raise ToolError(f"{step}: {failure}") from None
        return OperationOutcome(step, error, message, facts, tuple(calls))

    def _ioas(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        ioas = self._keep(fields, self._iommufd.alloc_ioas())
        return {"id": ioas.id}

    def _hwpt(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        coherency = Coherency(fields.get("coherency", Coherency.ANY))
        hwpt = self._keep(fields, self._bound().alloc_hwpt(self._named(fields["ioas"], Ioas), coherency=coherency))
        assert hwpt.evidence is not None  # alloc_hwpt gives it
        return {"id": hwpt.id, "coherency": str(hwpt.evidence.coherency), "evidence": str(hwpt.evidence)}

    def _attach(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        target = self._things.get(fields["to"])
        if not isinstance(target, Ioas | Hwpt):
            raise ToolError(f"{fields['to']!r} is no IOAS or HWPT of the steps before")
        self._bound().attach(target)
        return {"pt_id": target.id}

    def _detach(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._bound().detach()
        return {}

    def _buffer(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        buffer = self._keep(fields, DmaBuffer(_size(fields["size"]), Backing(fields.get("backing", Backing.ANON_4K))))
        runs = buffer.physical_runs()
        return {"user_va": buffer.user_va, "length": buffer.length, "physical_runs": runs and runs.total()}

    def _map(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        ioas, buffer = self._named(fields["ioas"], Ioas), self._named(fields["buffer"], DmaBuffer)
        before = pinned_bytes()
        mapping = self._keep(fields, ioas.map(buffer, **_place(fields)))
        return self._mapping_facts(mapping, pinned_bytes() - before)

    def _copy(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        ioas, source = self._named(fields["ioas"], Ioas), self._named(fields["from"], DmaMapping)
        before = pinned_bytes()
        mapping = self._keep(fields, ioas.copy(source, **_place(fields)))
        return self._mapping_facts(mapping, pinned_bytes() - before)

    def _mapping_facts(self, mapping: DmaMapping, pinned: int) -> dict[str, Any]:
        facts = {"iova": mapping.iova, "length": mapping.length, "pinned_bytes": pinned}
        leaves = leaf_sizes(self._device.name, mapping.iova, mapping.length) if self._device else None
        return facts if leaves is None else {**facts, "leaves": leaves}

    def _unmap(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        if "mapping" in fields:
            mapping = self._named(fields["mapping"], DmaMapping)
            ioas, iova, length = mapping.ioas, mapping.iova, mapping.length
        else:
            ioas, iova = self._named(fields.get("ioas", ""), Ioas), _iova(fields.get("iova", 0))
            length = _size(fields.get("length", 0))
        return {"unmapped_bytes": ioas.unmap(iova, length)}

    def _close(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._named(fields["what"], Resource).close()
        del self._things[fields["what"]]
        return {}

    def _bound(self) -> BoundDevice:
        if self._device is None:
            raise ToolError("this step needs a device: name one with --device")
        return self._device

    def _keep(self, fields: Mapping[str, Any], thing: _R) -> _R:
        name = fields.get("name") or f"unnamed {len(self._things)}"
        if name in self._things:
            thing.close()
            raise ToolError(f"the name {name!r} is taken by a step before")
        self._things[name] = thing
        return thing

    def _named(self, name: str, kind: type[_R]) -> _R:
        thing = self._things.get(name)
        if not isinstance(thing, kind):
            raise ToolError(f"{name!r} is no {kind.__name__} of the steps before")
        return thing


def _place(fields: Mapping[str, Any]) -> dict[str, Any]:
    access = fields.get("access", "rw")
    if access not in _ACCESS:
        raise ToolError(f"access {access!r} is none of {', '.join(_ACCESS)}")
    return {
        "iova": _iova(fields["iova"]) if "iova" in fields else None,
        "offset": _iova(fields.get("offset", 0)),
        "length": _size(fields["length"]) if "length" in fields else None,
        "flags": _ACCESS[access],
    }


def _size(value: int | str) -> int:
    return _number(value, parse_size)


def _iova(value: int | str) -> int:
    return _number(value, parse_iova)


def _number(value: int | str, parse: Callable[[str], int]) -> int:
    if isinstance(value, int):
        return value
    try:
        return parse(value)
    except ValueError as failure:
        raise ToolError(str(failure)) from None
