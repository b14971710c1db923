# SPDX-License-Identifier: MIT
"""Types and options for parameters of the command line."""

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import ArgumentValueError, DeviceError
from iommufd_py.base.pci_address import MOCK, normalize_bdf
from iommufd_py.base.shown import shown
from iommufd_py.base.units import parse_iova, parse_size

# A number with more digits is out of every range. Python refuses to convert thousands of digits.
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})(e[+-]?[0-9]{1,4})?", re.IGNORECASE)
_Function = TypeVar("_Function", bound=Callable[..., Any])

if TYPE_CHECKING or hasattr(click.ParamType, "__class_getitem__"):
    from click import ParamType as ParamType
else:

    class ParamType(click.ParamType):
        """The ParamType of click. It is not generic in click 8.1, the version of Debian 13."""

        def __class_getitem__(cls, _: object) -> type:
            return cls


class _Number(ParamType[int]):
    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self._parse(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


class Values(ParamType[tuple[Any, ...]]):
    """A list with commas whose elements have one type: ``4K,2M``, ``dirty,clean``."""

    def __init__(self, each: ParamType[Any]) -> None:
        self.name = f"{each.name},..."
        self._each = each

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Convert each element."""
        if isinstance(value, tuple):
            return value
        return tuple(self._each.convert(part, param, ctx) for part in str(value).split(","))


class _Bdf(ParamType[str]):
    """A PCI address. A shell completes the addresses of this machine, or those of devices that this tool took."""

    name = "bdf"

    def __init__(self, *, only_taken: bool = False, or_mock: bool = False) -> None:
        self._only_taken = only_taken
        self._or_mock = or_mock

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if self._or_mock and text == MOCK:
            return MOCK
        try:
            return normalize_bdf(text)
        except DeviceError as failure:
            self.fail(f"{failure}, or {MOCK}" if self._or_mock else str(failure), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from iommufd_py import pci

        taken = pci.remembered() if self._only_taken else ()
        devices = [one for one in pci.list_devices() if not self._only_taken or one.bdf in taken]
        mock = [CompletionItem(MOCK, help="the kernel's mock driver")] if self._or_mock else []
        return [one for one in mock if one.value.startswith(incomplete)] + [
            CompletionItem(one.bdf, help=f"{one.ids} {one.driver or 'no driver'} {one.name or one.class_name}".strip())
            for one in devices
            if one.bdf.startswith((incomplete, f"0000:{incomplete}"))
        ]


BDF = _Bdf()
TAKEN_BDF = _Bdf(only_taken=True)
"""An address. A shell completes the devices that this tool took, but any address is accepted."""
BDF_OR_MOCK = _Bdf(or_mock=True)


MOST_SECONDS = 366 * 24 * 3600
"""One year. threading and select() refuse much longer waits."""


class Whole(click.IntRange):
    """A whole number in a range, in decimal digits of ASCII. Python also reads other digits, blanks and ``1_000``."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the text, and check the range."""
        if isinstance(value, str) and not _WHOLE.fullmatch(value):
            self.fail(f"{shown(value)} is not a whole number", param, ctx)
        number: int = super().convert(value, param, ctx)
        return number


class FiniteFloat(click.FloatRange):
    """A decimal number in a range. Python also reads ``nan`` and ``inf``, which no range excludes."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text, and refuse ``nan`` and infinite numbers."""
        if isinstance(value, str) and not _DECIMAL.fullmatch(value):
            self.fail(f"{shown(value)} is not a number", param, ctx)
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{shown(value)} is not a finite number", param, ctx)
        return number


class Name(ParamType[str]):
    """A name: not empty, and without control characters."""

    name = "text"
    _MOST_CHARACTERS = 200

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text."""
        if not value.strip():
            self.fail("the name is empty", param, ctx)
        if len(value) > self._MOST_CHARACTERS:
            self.fail(f"the name has {len(value)} characters: use up to {self._MOST_CHARACTERS}", param, ctx)
        if not value.isprintable():
            self.fail(f"{shown(value)} contains a control character", param, ctx)
        return str(value)


class _VfToken(ParamType[UUID]):
    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        from iommufd_py.vfio.vf_token import parse_vf_token

        try:
            token = parse_vf_token(value)
        except ArgumentValueError:
            self.fail(f"{shown(value)} is not a UUID, as uuidgen prints it", param, ctx)
        assert token is not None  # click converts no missing value.
        return token


JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
SIZE = _Number("size", parse_size)
IOVA = _Number("iova", parse_iova)
SIZES = Values(SIZE)


def is_given(context: click.Context, name: str) -> bool:
    """Return whether the user gave the parameter; otherwise it has its default."""
    return context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def refuse_ignored(context: click.Context, option: str, condition: bool, reason: str) -> None:
    """Refuse an option that the user gave and that would have no effect.

    Raises:
        click.UsageError: the user gave *option*, the name of a parameter, and *condition* is true.
    """
    if condition and is_given(context, option):
        name = next(one.opts[-1] for one in context.command.params if one.name == option)
        raise click.UsageError(f"{name} would be ignored: {reason}")


def refuse_for_mock(device: str | None, bind: bool, vf_token: UUID | None) -> None:
    """Refuse the options of a PCI device for a mock device, or for none.

    Raises:
        click.UsageError: one of them is given.
    """
    if device not in (None, MOCK):
        return
    if bind:
        raise click.UsageError("--bind needs a PCI device: give its address with --device")
    if vf_token is not None:
        raise click.UsageError("--vf-token is for a virtual function: give its address with --device")


def chosen_format(as_json: bool, form: str) -> str:
    """Return the format that the options ``--json`` and ``--format`` choose. The parameter of ``--format`` is *form*.

    Raises:
        click.UsageError: they contradict each other.
    """
    if as_json and form != "json" and is_given(click.get_current_context(), "form"):
        raise click.UsageError(f"--json contradicts --format {form}")
    return "json" if as_json else form


def options_together(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    """Return a decorator that adds *options* to a command, in this order."""

    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def device_option(**settings: Any) -> Callable[[_Function], _Function]:
    """Return the option ``--device``, with the special arguments of one command."""
    usual: dict[str, Any] = {
        "type": BDF_OR_MOCK,
        "metavar": "BDF|mock",
        "help": "PCI device on vfio-pci, or the kernel's mock driver.",
    }
    return click.option("--device", **usual | settings)


DEVICE_OPTION = device_option()
VF_TOKEN_OPTION = click.option(
    "--vf-token",
    type=_VfToken(),
    metavar="UUID",
    help="Token of a virtual function whose physical function is on vfio-pci; the owner of that function set it.",
)
BIND_OPTION = click.option(
    "--bind", is_flag=True, help="Bind the device to vfio-pci first, and give it back to its driver at the end."
)
COHERENCY_OPTION = click.option(
    "--coherency",
    type=click.Choice([str(wish) for wish in Coherency]),
    default=str(Coherency.ANY),
    help="Required coherency of the domain. A domain without it is an error.",
)
