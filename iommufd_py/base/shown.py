# SPDX-License-Identifier: MIT
"""Show values of callers, files and kernels in messages: any type, printable, cut off after some characters."""

import unicodedata
from collections.abc import Sequence
from types import NoneType

_MOST_CHARACTERS = 40
# maxLength of a text in results/bench-1.json.
_MOST_IN_A_RESULT = 16384
# A number from here on is an address or a length, which hexadecimal digits suit.
_LARGE = 1 << 16


def shown(value: object) -> str:
    """Return a wrong value as a message shows it: on one line, with its type if the text does not tell the type."""
    text = shown_number(value) if type(value) is int else _cut(_representation(value))
    if isinstance(value, str | bytes | int | float | NoneType):
        return text
    # numpy has a class bool, too, and a program can load this tool twice. Only the module tells such classes apart.
    module = type(value).__module__
    name = type(value).__name__ if module == "builtins" else f"{module}.{type(value).__name__}"
    return f"the {name} {text}".rstrip()


def shown_number(value: int) -> str:
    """Return a number as a message shows it. Python writes no number with thousands of decimal digits."""
    return _cut(hex(value)) if abs(value) >= _LARGE else str(value)


def error_text(failure: BaseException) -> str:
    """Return the text of an exception of a class that is not ours, whose __str__() may itself raise one."""
    try:
        return str(failure)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as another:
        return f"no text, because its __str__() raises {type(another).__name__}"


def printable(text: str) -> str:
    """Escape control characters of a terminal and invalid UTF-8. Names of processes, files and disks can contain
    them."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\t" else repr(one)[1:-1] for one in valid_utf8(text))


def display_width(text: str) -> int:
    """Return the number of columns that *text* takes on a terminal: two for each wide character, such as a Chinese
    one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in ("F", "W") else 1 for one in text
    )


def padded(text: str, width: int, *, to_right: bool = False) -> str:
    """Return *text* with blanks that make it *width* columns wide."""
    blanks = " " * (width - display_width(text))
    return blanks + text if to_right else text + blanks


def column_widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column of a table on a terminal."""
    return [max(display_width(row[at]) for row in (headings, *rows)) for at in range(len(headings))]


def result_text(text: str) -> str:
    """Return *text* as the schemas of results permit it: printable characters, and not more than their limit."""
    return "".join(one if one.isprintable() else "?" for one in text[:_MOST_IN_A_RESULT])


def valid_utf8(text: str) -> str:
    """Escape bytes that are not UTF-8. The name of a file can contain any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _representation(value: object) -> str:
    if isinstance(value, str):
        # The quotation mark at the end tells that nothing more is cut off.
        return repr(str(value) if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}...")
    try:
        # An array has several lines, and a class decides by itself what its __repr__() returns.
        return " ".join(printable(line.strip()) for line in repr(value).splitlines())
    except Exception:
        # The class of the value may have a faulty __repr__(). Python also refuses to write numbers of over 4300 digits.
        return ""


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS + len("'...'") else f"{text[:_MOST_CHARACTERS]}..."
