# SPDX-License-Identifier: MIT
"""Check the arguments of public functions before they reach an ioctl."""

import functools
import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import fields
from enum import Enum, IntEnum, IntFlag, StrEnum
from numbers import Real
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from iommufd_py.base.errors import ArgumentTypeError, ArgumentValueError
from iommufd_py.base.shown import shown, shown_number

_Function = TypeVar("_Function", bound=Callable[..., Any])
# A rule takes the name of the argument, for the message, and its value. It returns the value for the function.
_Rule = Callable[[str, Any], Any]
# The rules of the positional parameters with their labels, the rule of ``*parameters``, and the rules by name.
_Rules = tuple[list[tuple[str, _Rule]], tuple[str, _Rule] | None, dict[str, tuple[str, _Rule]]]
_BUFFERS = (bytes, bytearray, memoryview)
_MOST_MILLISECONDS = (1 << 31) - 1
# No field of an ioctl holds such a number. A message with more precise limits is for a number below, which it can show.
_OUT_OF_REACH = 1 << 128


def checked(function: _Function) -> _Function:
    """Check the arguments of each call of *function* against its annotations.

    A member of an enumeration may be given by its value: the word of a StrEnum, the number of an IntEnum or IntFlag. A
    bool is not an integer. The contents of collections are not checked.

    Raises:
        ArgumentTypeError: an argument has another type than its annotation says.
        ArgumentValueError: an enumeration has no such member.
    """
    return checked_as(function.__qualname__.removesuffix(".__init__"))(function)


def checked_as(name: str) -> Callable[[_Function], _Function]:
    """Return the decorator above for a function that checks the arguments of the public call *name*."""
    return lambda function: _checked(function, name)


def _checked(function: _Function, name: str) -> _Function:
    rules: _Rules | None = None

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal rules
        if rules is None:
            # Build the rules at the first call: now every name in the annotations is defined.
            rules = _rules_of(function, name)
        positional, rest, named = rules
        taken = [rule(label, value) for (label, rule), value in zip(positional, arguments, strict=False)]
        taken += [rest[1](rest[0], value) for value in arguments[len(positional) :]] if rest else ()
        if options:
            options = {
                name: named[name][1](named[name][0], value) if name in named else value
                for name, value in options.items()
            }
        if len(taken) < len(arguments):
            # With too many arguments, Python raises its own error.
            taken += arguments[len(taken) :]
        return function(*taken, **options)

    return cast("_Function", call)


def check_fields(value: Any) -> None:
    """Check the fields of a dataclass against its annotations, in its ``__post_init__``, as @checked does.

    A field gets the value that its rule returns. For example, an integer of numpy becomes an int: numpy's own integers
    overflow.

    Raises:
        ArgumentTypeError: a field has another type than its annotation says.
        ArgumentValueError: an enumeration has no such member.
    """
    hints = get_type_hints(type(value))
    for field in fields(value):
        given = getattr(value, field.name)
        taken = _rule(hints[field.name])(f"{type(value).__name__}(): {field.name}", given)
        if taken is not given:
            object.__setattr__(value, field.name, taken)  # The dataclass is frozen.


def check_integer(label: str, value: Any, lowest: int = 0, highest: int = (1 << 64) - 1) -> int:
    """Return *value*, an integer from *lowest* to *highest*; *label* names it in the message.

    Raises:
        ArgumentTypeError: *value* is not an integer. A bool and a float are not.
        ArgumentValueError: it is out of range.
    """
    number = _integer(label, value)
    if not lowest <= number <= highest:
        raise ArgumentValueError(
            f"{label} must be from {shown_number(lowest)} to {shown_number(highest)}, not {shown_number(number)}"
        )
    return number


def milliseconds(label: str, timeout: Any) -> int | None:
    """Convert a timeout from seconds to milliseconds, for poll(2). None means no timeout, and stays None.

    Raises:
        ArgumentTypeError: it is not a number.
        ArgumentValueError: it is negative or not a number of seconds.
    """
    if timeout is None:
        return None
    seconds = _float(label, timeout)
    if not seconds >= 0:  # NaN is neither.
        raise ArgumentValueError(f"{label} must be 0 or more seconds, not {shown(timeout)}")
    # poll() takes a signed 32-bit number, which is 24 days. A longer timeout makes no difference.
    return math.ceil(min(seconds, _MOST_MILLISECONDS / 1000) * 1000)


def _rules_of(function: Callable[..., Any], name_of_call: str) -> _Rules:
    hints = get_type_hints(function)
    positional: list[tuple[str, _Rule]] = []
    rest: tuple[str, _Rule] | None = None
    named: dict[str, tuple[str, _Rule]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        rule = (f"{name_of_call}(): {name}", _rule(hints[name]) if name in hints else _anything)
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = rule
            continue
        named[name] = rule
        if parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(rule)
    return positional, rest, named


@functools.cache
def _rule(annotation: Any) -> _Rule:
    if annotation is int:
        return _integer
    if annotation is float:
        return _float
    if get_origin(annotation) in (Union, UnionType):
        return _any_of(annotation)
    if annotation is bytes:
        return _bytes
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type) or kind is object:
        return _anything
    if issubclass(kind, Enum):
        return _member(kind)
    return _instance(kind, "None" if kind is NoneType else _with_article(kind.__name__))


def _integer(label: str, value: Any) -> int:
    if type(value) is int and -_OUT_OF_REACH < value < _OUT_OF_REACH:
        return value
    if not isinstance(value, bool):
        try:
            number = value if isinstance(value, int) else operator.index(value)
        except TypeError:
            pass
        else:
            if -_OUT_OF_REACH < number < _OUT_OF_REACH:
                return number
            raise ArgumentValueError(f"{label} must fit in 64 bits, not {shown(number)}")
    raise ArgumentTypeError(f"{label} must be an integer, not {shown(value)}")


def _float(label: str, value: Any) -> float:
    # numpy's numbers of other sizes than Python's are Real, and no float.
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            return value if isinstance(value, int) else float(value)
        except OverflowError:  # A fraction can be larger than each float.
            return math.inf if operator.gt(value, 0) else -math.inf
    raise ArgumentTypeError(f"{label} must be a number, not {shown(value)}")


def _anything(label: str, value: Any) -> Any:
    return value


def _instance(kind: type | tuple[type, ...], expected: str) -> _Rule:
    def rule(label: str, value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise ArgumentTypeError(f"{label} must be {expected}, not {shown(value)}")

    return rule


def _bytes(label: str, value: Any) -> Any:
    if not isinstance(value, _BUFFERS):
        raise ArgumentTypeError(f"{label} must be bytes, not {shown(value)}")
    # len() of a memoryview is its number of items. They can be larger than a byte, and need not lie side by side.
    if isinstance(value, memoryview):
        try:
            plain = value.ndim == 1 and value.itemsize == 1 and value.c_contiguous
        except ValueError:
            raise ArgumentValueError(f"{label} must be bytes, not a memoryview that is released") from None
        return value if plain else bytes(value)
    return value


def _member(kind: type[Enum]) -> _Rule:
    base = str if issubclass(kind, StrEnum) else int if issubclass(kind, (IntEnum, IntFlag)) else None
    members = ", ".join(repr(one.value) if base is str else f"{one.name} ({one.value})" for one in kind)
    expected = f"one of {members}" if base is str else _with_article(kind.__name__)

    def rule(label: str, value: Any) -> Any:
        if isinstance(value, kind):
            return value
        # A member of another enumeration is a mistake, although it is also a str or an int.
        if base is None or isinstance(value, (Enum, bool)) or not isinstance(value, base):
            raise ArgumentTypeError(f"{label} must be {expected}, not {shown(value)}")
        try:
            # IntFlag would read a negative number as all flags except some.
            if base is int and issubclass(kind, IntFlag) and int(value) < 0:
                raise ValueError
            return kind(value)
        except ValueError:
            raise ArgumentValueError(f"{label} must be one of {members}, not {shown(value)}") from None

    return rule


def _any_of(annotation: Any) -> _Rule:
    alternatives = get_args(annotation)
    rules = [_rule(one) for one in alternatives]

    def rule(label: str, value: Any) -> Any:
        refusal: ArgumentValueError | None = None
        for one in rules:
            try:
                return one(label, value)
            except ArgumentTypeError:
                continue
            except ArgumentValueError as failure:
                # A newer kernel can have a value that the enumeration lacks, so an int is also allowed.
                refusal = refusal or failure
        if refusal is not None:
            raise refusal
        names = " or ".join("None" if one is NoneType else getattr(one, "__name__", str(one)) for one in alternatives)
        raise ArgumentTypeError(f"{label} must be {_with_article(names)}, not {shown(value)}")

    return rule


def _with_article(name: str) -> str:
    name = {"int": "integer", "str": "string"}.get(name, name)
    # Names that begin with U, such as UUID, are spoken with a consonant.
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"
