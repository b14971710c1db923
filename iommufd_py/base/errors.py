# SPDX-License-Identifier: MIT
"""The errors of this package, one class for each meaning.

An ioctl that failed keeps its errno: every :class:`IommufdError` is an :class:`OSError`. Everything else that this
package refuses is a :class:`ToolError`, whose text is one sentence with the cause and the remedy. All of them can be
copied and pickled, so they pass from one process to another.
"""

import errno as _errno
import os
from collections.abc import Mapping

from iommufd_py.base.meanings import meaning_of


class ToolError(Exception):
    """This package refuses a request or cannot continue. The text is one sentence with the cause and the remedy."""


class ArgumentTypeError(ToolError, TypeError):
    """An argument of a call has the wrong type."""


class ArgumentValueError(ToolError, ValueError):
    """An argument of a call has the right type but an impossible value."""


class SkipError(ToolError):
    """This machine cannot do or show the requested operation. That does not mean that the operation would fail."""


class ClosedError(ToolError):
    """An object was used after it was closed, or after an object that it stands on was closed."""


class DeviceError(ToolError):
    """A device is absent, is bound to the wrong driver, or is in use by another process."""


class DmaError(ToolError):
    """A device did not carry out a transfer, or reported that it failed."""


class BackingError(ToolError):
    """The kernel has no memory of the requested kind, or it gave another kind."""


class CoherencyError(ToolError):
    """A HWPT is not coherent or non-coherent as requested; the text names the evidence."""


class IommufdError(OSError):
    """An ioctl of iommufd or VFIO failed.

    Attributes:
        errno: the number that the kernel returned.
        ioctl: name of the ioctl, e.g. ``IOMMU_IOAS_MAP``.
        arguments: its in-fields by name.

    Source: "General ioctl format" in include/uapi/linux/iommufd.h for the general meaning of each errno.
    """

    def __init__(self, number: int, ioctl: str, arguments: Mapping[str, object]) -> None:
        super().__init__(number, os.strerror(number))
        self.ioctl = ioctl
        self.arguments = dict(arguments)

    def __reduce__(self) -> tuple[object, ...]:
        # OSError's own would call the class with the errno and its text. The rest holds notes (PEP 678).
        rest = {name: value for name, value in vars(self).items() if name not in ("ioctl", "arguments")}
        return type(self), (self.errno, self.ioctl, self.arguments), rest

    @property
    def errno_name(self) -> str:
        """The errno as C spells it, e.g. ``EEXIST``."""
        # Linux has two names for 95; the uAPI speaks of this one.
        if self.errno == _errno.EOPNOTSUPP:
            return "EOPNOTSUPP"
        return _errno.errorcode.get(self.errno or 0, str(self.errno))

    @property
    def meaning(self) -> str:
        """The meaning of the errno for this ioctl, with the remedy, or the general meaning of the errno."""
        return meaning_of(self.ioctl, self.errno or 0) or reason_of(self)

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={show_argument(name, value)}" for name, value in self.arguments.items())
        return f"{self.ioctl}({shown}): {self.errno_name}: {self.meaning}"


class UnsupportedIoctlError(IommufdError):
    """ENOTTY: this kernel does not have the ioctl."""


class NotSupportedError(IommufdError):
    """EOPNOTSUPP: the kernel knows the field but not this value of it, or the hardware cannot do it."""


class TooNewError(IommufdError):
    """E2BIG: a part of the structure that this kernel does not know is not zero."""


class ObjectNotFoundError(IommufdError):
    """ENOENT: no such object id or no such IOVA."""


class BusyError(IommufdError):
    """EBUSY: something else still uses the object."""


class AlreadyMappedError(IommufdError):
    """EEXIST: the IOVA is taken."""


class InvalidFieldError(IommufdError):
    """EINVAL: a field is wrong."""


_CLASSES: dict[int, type[IommufdError]] = {
    _errno.ENOTTY: UnsupportedIoctlError,
    _errno.EOPNOTSUPP: NotSupportedError,
    _errno.E2BIG: TooNewError,
    _errno.ENOENT: ObjectNotFoundError,
    _errno.EBUSY: BusyError,
    _errno.EEXIST: AlreadyMappedError,
    _errno.EINVAL: InvalidFieldError,
}

_HEX = ("iova", "user_va", "addr", "flags", "_uptr", "vaddr")


def show_argument(name: str, value: object) -> str:
    """Return the text of an ioctl's field: addresses and flags in hexadecimal, other numbers in decimal."""
    if isinstance(value, int) and name.endswith(_HEX):
        return hex(value)
    return str(int(value)) if isinstance(value, int) else repr(value)


def check_result(result: int, ioctl: str, arguments: Mapping[str, object]) -> int:
    """Return *result*, or raise the :class:`IommufdError` for it if it is a negative errno."""
    if result < 0:
        raise _error_of(-result, ioctl, arguments)
    return result


def call_error(failure: OSError, call: str, arguments: Mapping[str, object]) -> IommufdError:
    """Return the :class:`IommufdError` for a call of Python that the kernel refused, such as ``read``."""
    return _error_of(failure.errno or 0, call, arguments)


def _error_of(number: int, call: str, arguments: Mapping[str, object]) -> IommufdError:
    return _CLASSES.get(number, IommufdError)(number, call, arguments)


_LIMITS: Mapping[int | None, str] = {
    _errno.EMFILE: "raise the limit of open files (ulimit -n)",
    _errno.ENFILE: "raise the limit of the system (sysctl fs.file-max)",
    _errno.EFBIG: "raise the limit of the size of a file (ulimit -f)",
}


def reason_of(failure: OSError, otherwise: str = "") -> str:
    """Return the kernel's reason for a refused call that is no ioctl, with a remedy.

    Args:
        failure: the error.
        otherwise: the remedy if no limit is reached; none if it is empty.
    """
    reason = failure.strerror or str(failure)
    remedy = _LIMITS.get(failure.errno, otherwise)
    return f"{reason}; {remedy}" if remedy else reason
