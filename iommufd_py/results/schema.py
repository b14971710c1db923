# SPDX-License-Identifier: MIT
"""Read a JSON document and check it against its schema before anything uses it. Needs jsonschema."""

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import cannot_read, read_file
from iommufd_py.results.conform import are_integers, conforms_to, is_time

# An error message shows at most this number of characters of a value.
_SHOWN = 60
_UPGRADE = "a newer version of this tool may know more: upgrade iommufd-py"
_HERE = Path(__file__).parent
_FILES = {
    "iommufd-bench/1": _HERE / "bench-1.json",
    "iommufd-bench-trace/1": _HERE / "trace-1.json",
    "iommufd-fleet-runner/1": _HERE.parent / "fleet" / "runner-1.json",
}
_MADE_BY = {
    "iommufd-bench": "'iommufd bench run --output'",
    "iommufd-bench-compare": "'iommufd bench compare --json'",
    "iommufd-bench-summary": "'iommufd bench show --json'",
    "iommufd-bench-trace": "'iommufd bench trace --json'",
    "iommufd-fleet-runner": "'iommufd fleet run'",
}


def read_schema(name: str) -> Any:
    """Return the JSON Schema (2020-12) of the documents whose ``schema`` is *name*."""
    return json.loads(_FILES[name].read_text(encoding="utf-8"))


def read_document(path: Path, name: str) -> Any:
    """Return the document of *path*, whose ``schema`` must be *name*.

    Raises:
        ToolError: the file cannot be read, is another kind of file, or violates its schema. The text names the place.
    """
    document = parsed_file(path, _give(name))
    found = document.get("schema") if isinstance(document, dict) else None
    if found != name:
        raise ToolError(f"{path} {_foreign(document, found, name)}")
    if not _check(name)(document):
        raise ToolError(f"{path} is damaged at {_problem(document, name)}; repeat the command that wrote it")
    return document


def parsed_file(path: Path, remedy: str) -> Any:
    """Return the JSON document of a file, without a check against a schema.

    Raises:
        ToolError: the file cannot be read, is not JSON, is nested too deeply or has a key twice. The text ends in
            *remedy*.
    """
    content = b""
    try:
        content = read_file(path)
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_doubles)
    except OSError as failure:
        raise cannot_read(path, failure, remedy) from None
    except RecursionError:
        raise ToolError(f"{path} is nested too deeply to be a file of this tool: {remedy}") from None
    except _DoubleKeyError as failure:
        raise ToolError(f"{path} is damaged: {failure}; repeat the command that wrote it") from None
    except ValueError:
        raise ToolError(f"{path} {_no_json(content.strip())}: {remedy}") from None


def _no_json(content: bytes) -> str:
    if not content:
        return "is empty"
    cut_off = content.startswith(b"{") and not content.endswith(b"}")
    return "lacks its end, as after a full disk or a partial copy" if cut_off else "is not JSON"


class _DoubleKeyError(ValueError):
    pass


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object without double keys. Of two values, Python would keep the last one, other programs the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        double = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise _DoubleKeyError(f"an object has the key {_short(double)} twice")
    return found


def _give(name: str) -> str:
    return f"give a file that {_MADE_BY[name.partition('/')[0]]} wrote"


def _foreign(document: Any, found: object, name: str) -> str:
    kind, _, version = name.partition("/")
    if isinstance(found, str):
        match = re.fullmatch(r"([a-z-]+)/([0-9]{1,6})", found)
        if match and match[1] == kind and int(match[2]) > int(version):
            return f"was written by a newer version of this tool (schema {found}): upgrade iommufd-py to read it"
        if match and match[1] in _MADE_BY and match[1] != kind:
            return f"was written by {_MADE_BY[match[1]]}: {_give(name)}"
        return f"has the schema {_short(found)}, not {name}: {_give(name)}"
    if isinstance(document, dict) and "benchmarks" in document:
        return f"is a pyperf file, as 'iommufd bench export' prints it: {_give(name)}"
    return f"has no schema, so it is not a file of this tool: {_give(name)}"


@cache
def _check(name: str) -> Callable[[Any], bool]:
    return conforms_to(read_schema(name))


def _problem(document: Any, name: str) -> str:
    """Return the place and the reason of the worst violation of the schema."""
    from jsonschema.exceptions import best_match

    failure = best_match(_validator(name).iter_errors(document))
    assert failure is not None  # conforms_to() has found one.
    place = "/".join(map(str, failure.absolute_path)) or "its top level"
    return f"{place}: {_reason(failure)}"


def _reason(failure: Any) -> str:
    if failure.validator == "additionalProperties":
        return f"{str(failure.message)[: 4 * _SHOWN]}; {_UPGRADE}"
    if failure.validator in ("required", "minItems"):
        return str(failure.message)[: 4 * _SHOWN]
    value = _short(failure.instance)
    if failure.validator == "type":
        kinds = failure.validator_value
        return f"{value} is not of type {kinds if isinstance(kinds, str) else ' or '.join(kinds)}"
    if failure.validator == "format":
        return f"{value} is not a time that exists"
    if failure.validator == "enum":
        return f"{value} is not one of {', '.join(map(str, failure.validator_value))}; {_UPGRADE}"
    if failure.validator in ("minimum", "maximum"):
        return f"{value} is outside the {failure.validator} of {failure.validator_value}"
    return f"{value} is not allowed here"


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.validators import extend

    described = read_schema(name)
    samples = described.get("$defs", {}).get("count")

    def items(validator: Any, each: Any, instance: Any, here: Any) -> Iterator[Any]:
        # The library would take seconds for the millions of samples of a result.
        is_samples = each == {"$ref": "#/$defs/count"} and isinstance(instance, list)
        if is_samples and are_integers(instance, samples["minimum"], samples["maximum"]):
            return
        yield from Draft202012Validator.VALIDATORS["items"](validator, each, instance, here)

    checker = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": lambda _, value: type(value) is int, "number": lambda _, value: _is_number(value)}
    )
    formats = FormatChecker(())
    formats.checks("date-time")(lambda value: not isinstance(value, str) or is_time(value))
    return extend(Draft202012Validator, {"items": items}, type_checker=checker)(described, format_checker=formats)


def _is_number(value: object) -> bool:
    """Return whether it is a finite number. JSON knows no others, but Python reads NaN and Infinity."""
    return type(value) is int or (type(value) is float and math.isfinite(value))
