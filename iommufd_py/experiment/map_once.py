# SPDX-License-Identifier: MIT
"""The steps of `iommufd map`: an IOAS, a HWPT, an attach, a buffer, a map. Each step is reported when it ends."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import IommufdError
from iommufd_py.host import pinned_bytes
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.ioctl_trace import ioctl_trace
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.call import IoctlCall
from iommufd_py.vtd import leaf_sizes

STEPS = 5

_R = TypeVar("_R", bound=Resource)


@dataclass(frozen=True, slots=True)
class MapStep:
    """Result of one step.

    Attributes:
        do: ``ioas``, ``hwpt``, ``attach``, ``buffer`` or ``map``.
        fields: the user's choices for the step, such as the size.
        error: name of the errno, for example ``EEXIST``; empty for success.
        message: text of the error, empty for success.
        facts: ids, addresses, bytes and leaves of the result, by name.
        ioctls: all ioctls of the step.
    """

    do: str
    fields: Mapping[str, Any]
    error: str
    message: str
    facts: Mapping[str, Any]
    ioctls: tuple[IoctlCall, ...]


class MapOnce:
    """One map for a device, in a ``with`` block that undoes everything at its end.

    Args:
        iommufd: the iommufd in which all objects are made.
        device: the device for which the HWPT is made, and which is attached to it.
        size: bytes to map.
        iova: IOVA to map at; None lets the kernel choose.
        backing: kind of memory.
        coherency: required coherency of the HWPT.
    """

    def __init__(
        self,
        iommufd: Iommufd,
        device: BoundDevice,
        *,
        size: int,
        iova: int | None = None,
        backing: Backing = Backing.ANON_4K,
        coherency: Coherency = Coherency.ANY,
    ) -> None:
        self._iommufd = iommufd
        self._device = device
        self._size = size
        self._iova = iova
        self._backing = backing
        self._coherency = coherency
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def steps(self) -> Iterator[MapStep]:
        """Execute the steps and yield each result, up to the first failure."""
        place = {} if self._iova is None else {"iova": self._iova}
        memory = {"size": self._size, "backing": str(self._backing)}
        steps: tuple[tuple[str, dict[str, Any], Callable[[], dict[str, Any]]], ...] = (
            ("ioas", {}, self._ioas),
            ("hwpt", {"coherency": str(self._coherency)}, self._hwpt),
            ("attach", {}, self._attach),
            ("buffer", memory, self._buffer),
            ("map", place, self._map),
        )
        assert len(steps) == STEPS
        for do, fields, call in steps:
            step = _try(do, fields, call)
            yield step
            if step.error:
                return

    def _keep(self, made: _R) -> _R:
        self._open.enter_context(made)
        return made

    def _ioas(self) -> dict[str, Any]:
        self._made_ioas: Ioas = self._keep(self._iommufd.alloc_ioas())
        return {"id": self._made_ioas.id}

    def _hwpt(self) -> dict[str, Any]:
        hwpt = self._made_hwpt = self._keep(self._device.alloc_hwpt(self._made_ioas, coherency=self._coherency))
        return {"id": hwpt.id, "coherency": str(hwpt.evidence.coherency), "evidence": str(hwpt.evidence)}

    def _attach(self) -> dict[str, Any]:
        self._keep(self._device.attach(self._made_hwpt))
        return {"pt_id": self._made_hwpt.id}

    def _buffer(self) -> dict[str, Any]:
        buffer = self._made_buffer = self._keep(DmaBuffer(self._size, self._backing))
        runs = buffer.physical_runs()
        return {"user_va": buffer.user_va, "length": buffer.length, "physical_runs": runs and runs.total()}

    def _map(self) -> dict[str, Any]:
        before = pinned_bytes()
        mapping = self._keep(self._made_ioas.map(self._made_buffer, self._iova))
        pinned = pinned_bytes() - before
        return {"iova": mapping.iova, "length": mapping.length, "pinned_bytes": pinned, **self._leaves(mapping)}

    def _leaves(self, mapping: DmaMapping) -> dict[str, Any]:
        leaves = leaf_sizes(self._device.name, mapping.iova, mapping.length)
        return {} if leaves is None else {"leaves": leaves}


def _try(do: str, fields: dict[str, Any], call: Callable[[], dict[str, Any]]) -> MapStep:
    calls: list[IoctlCall] = []
    error = message = ""
    facts: dict[str, Any] = {}
    with ioctl_trace(calls.append):
        try:
            facts = call()
        except IommufdError as failure:
            error, message = failure.errno_name, str(failure)
    return MapStep(do, fields, error, message, facts, tuple(calls))
