# SPDX-License-Identifier: MIT
"""A sequence of calls that C runs while the kernel fails one of its allocations (fail-nth).

The Python interpreter allocates memory at every step. So the sequence is data, and no Python runs inside it.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iommufd_py.base.errors import check_result
from iommufd_py.uapi.call import address_of, request
from iommufd_py.uapi.fault_injection import FAIL_NTH
from iommufd_py.uapi.ffi import ffi, lib


@dataclass(frozen=True, slots=True)
class StepField:
    """A field of a call's structure whose value a later call uses."""

    pointer: Any
    bytes: int


@dataclass(frozen=True, slots=True)
class Call:
    """One step of a program; ``call["out_ioas_id"]`` or ``call["create_access.out_access_fd"]`` names a field of it."""

    number: int
    argument: Any

    def __getitem__(self, path: str) -> StepField:
        return _field(self.argument, path)


@dataclass(frozen=True, slots=True)
class InjectionOutcome:
    """The outcome of one run.

    Attributes:
        failed: the failed call; None if no call failed.
        errno: errno of the failed call, 0 if none failed.
        injected: whether the kernel failed an allocation.
    """

    failed: str | None
    errno: int
    injected: bool

    def __str__(self) -> str:
        how = f"{self.failed}: {errno.errorcode.get(self.errno, self.errno)}" if self.failed else "no call failed"
        return f"{how}, {'an' if self.injected else 'no'} allocation was made to fail"


class Program:
    """A sequence of calls, each with the call that undoes it if a later call fails.

    A field of a structure takes a number, or a :class:`StepField` of an earlier call. C copies the value of a StepField
    at run time.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._steps: list[dict[str, Any]] = []
        self._undo: list[tuple[int, int | None, dict[str, Any]]] = []
        self._inject_from = 0
        self._array: Any = None
        # Memory to which C has pointers, and its content before a run.
        self._kept: list[Any] = []
        self._images: list[tuple[Any, bytes]] = []

    def data(self, ctype: str, init: object = None) -> int:
        """Return the address of new C data, for a field with a user pointer. The data lives as long as the program."""
        data = ffi.new(ctype, init)
        self._kept.append(data)
        return address_of(data)

    def open(self, path: Path) -> StepField:
        """Open a file for the later calls; the end of the run closes it."""
        fd = StepField(ffi.new("int *", -1), ffi.sizeof("int"))
        name = ffi.new("char[]", os.fsencode(path))
        self._kept += [fd.pointer, name]
        call = self._append(f"open({path})", _step(lib.IOMMUFD_STEP_OPEN, fd, arg=name), name)
        self._undo.append((call.number, None, _step(lib.IOMMUFD_STEP_CLOSE, fd)))
        return fd

    def close(self, fd: StepField) -> Call:
        """Close a descriptor that an earlier call returned. The end of a run does not close it again."""
        call = self._append("close", _step(lib.IOMMUFD_STEP_CLOSE, fd), None)
        self._undo = [
            (made, call.number if by is None and step["fd"] == fd.pointer else by, step)
            for made, by, step in self._undo
        ]
        return call

    def ioctl(
        self, fd: StepField, ioctl: str, structure: str, /, *, may_fail: bool = False, **fields: int | StepField
    ) -> Call:
        """Issue *ioctl* with a ``struct structure`` that starts with ``size``."""
        return self._ioctl(ioctl, fd, ioctl, structure, fields, may_fail)

    def test(
        self, fd: StepField, operation: str, object_id: int | StepField = 0, member: str = "", /, **fields: Any
    ) -> Call:
        """Issue ``IOMMU_TEST_OP_<operation>`` with *fields* in the union's *member*."""
        inside: dict[str, int | StepField] = {f"{member}.{name}": value for name, value in fields.items()}
        values = {"op": getattr(lib, f"IOMMU_TEST_OP_{operation}"), "id": object_id, **inside}
        return self._ioctl(f"IOMMU_TEST_CMD {operation}", fd, "IOMMU_TEST_CMD", "iommu_test_cmd", values, False)

    def undo(self, made: Call, by: Call) -> None:
        """Run *by* as clean-up after a run that completed *made* but not *by*."""
        self._undo.append((made.number, by.number, self._steps[by.number]))

    def inject_from_here(self) -> None:
        """Let only the calls that follow fail."""
        self._inject_from = len(self._steps)

    def run(self, nth: int = 0) -> InjectionOutcome:
        """Run the calls while the *nth* allocation fails (0: none), then undo the successful calls.

        Raises:
            IommufdError: the clean-up failed.
        """
        for argument, image in self._images:
            ffi.memmove(argument, image, len(image))
        if self._array is None:
            self._array = ffi.new("struct iommufd_step[]", self._steps)
        done, injected = ffi.new("unsigned int *"), ffi.new("_Bool *")
        nth_fd = os.open(FAIL_NTH, os.O_RDWR | os.O_CLOEXEC) if nth else -1
        try:
            result = lib.iommufd_run_steps(
                self._array, len(self._steps), self._inject_from, nth_fd, nth, done, injected
            )
        finally:
            if nth:
                os.close(nth_fd)
        reached = done[0]
        for made, by, step in reversed(self._undo):
            if made < reached and (by is None or by >= reached):
                self._clean_up(step)
        return InjectionOutcome(self._names[reached] if result else None, -result, bool(injected[0]))

    def _clean_up(self, step: Mapping[str, Any]) -> None:
        done, injected = ffi.new("unsigned int *"), ffi.new("_Bool *")
        alone = ffi.new("struct iommufd_step[]", [step])
        check_result(lib.iommufd_run_steps(alone, 1, 0, -1, 0, done, injected), "clean-up", {"kind": step["kind"]})

    def _ioctl(
        self,
        name: str,
        fd: StepField,
        ioctl: str,
        structure: str,
        fields: Mapping[str, int | StepField],
        may_fail: bool,
    ) -> Call:
        argument = ffi.new(f"struct {structure} *")
        argument.size = ffi.sizeof(argument[0])
        copies = []
        for path, value in fields.items():
            field = _field(argument, path)
            if isinstance(value, StepField):
                copies.append((value.pointer, field.pointer, field.bytes))
            else:
                field.pointer[0] = value
        copy = ffi.new("struct iommufd_copy[]", copies)
        self._kept += [argument, copy]
        self._images.append((argument, bytes(ffi.buffer(argument))))
        step = _step(
            lib.IOMMUFD_STEP_IOCTL,
            fd,
            request=request(ioctl),
            arg=argument,
            copy=copy,
            copies=len(copies),
            may_fail=may_fail,
        )
        return self._append(name, step, argument)

    def _append(self, name: str, step: dict[str, Any], argument: Any) -> Call:
        self._names.append(name)
        self._steps.append(step)
        self._array = None
        return Call(len(self._steps) - 1, argument)


def _step(kind: int, fd: StepField, **more: Any) -> dict[str, Any]:
    # The field of a descriptor can be unsigned.
    return {"kind": kind, "fd": ffi.cast("int *", fd.pointer), **more}


def _field(argument: Any, path: str) -> StepField:
    pointer = ffi.addressof(argument[0], *path.split("."))
    return StepField(pointer, ffi.sizeof(ffi.typeof(pointer).item))
