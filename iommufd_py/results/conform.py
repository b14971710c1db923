# SPDX-License-Identifier: MIT
"""Tell quickly whether a document conforms to a JSON Schema. The library jsonschema then explains the errors.

The library takes 10 to 60 ms for a result, and seconds for one with millions of samples. This module converts a schema
into a tree of functions, which takes a tenth of the time. So every file is checked before its use, even if a command
reads hundreds of files.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import NoneType
from typing import Any

_Check = Callable[[Any], bool]
_REMARKS = frozenset({"$schema", "$id", "$defs", "title", "description"})
_CLOSED = frozenset({"type", "properties", "required", "additionalProperties"})
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (NoneType,),
}


def conforms_to(schema: Mapping[str, Any]) -> _Check:
    """Return a function that tells whether a parsed JSON document conforms to *schema*.

    Stricter than JSON Schema: 1.0 is not an integer, and NaN and infinity are not numbers.

    Raises:
        ValueError: the schema has a keyword that this module does not know.
    """
    return _Compiler(schema).check({"$ref": "#"})


def are_integers(values: list[Any], low: int, high: int) -> bool:
    """Return whether all *values* are integers from *low* to *high*.

    A result has up to millions of samples. This check needs a few passes in C over them.
    """
    return not values or (set(map(type, values)) == {int} and min(values) >= low and max(values) <= high)


def is_time(text: str) -> bool:
    """Return whether a text is a time that exists. The 13th month fits a pattern, too."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


class _Compiler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[str, _Check] = {}

    def check(self, node: Mapping[str, Any]) -> _Check:
        if node.keys() >= _CLOSED and node["type"] == "object" and node["additionalProperties"] is False:
            fused = self._closed_object(node)
            rest = {name: value for name, value in node.items() if name not in _CLOSED}
            checks = [
                fused,
                *(self._keyword(name, value, node) for name, value in rest.items() if name not in _REMARKS),
            ]
        else:
            checks = [self._keyword(name, value, node) for name, value in node.items() if name not in _REMARKS]
        return checks[0] if len(checks) == 1 else _all_of(checks)

    def _keyword(self, name: str, value: Any, node: Mapping[str, Any]) -> _Check:
        match name:
            case "$ref":
                return self._reference(value)
            case "type":
                return _type([value] if isinstance(value, str) else value)
            case "const":
                return _one_of([value])
            case "enum":
                return _one_of(value)
            case "not":
                refused = self.check(value)
                return lambda found: not refused(found)
            case "anyOf":
                choices = [self.check(one) for one in value]
                return lambda found: any(choice(found) for choice in choices)
            case "pattern":
                search = re.compile(value).search
                return lambda found: not isinstance(found, str) or search(found) is not None
            case "format" if value == "date-time":
                return lambda found: not isinstance(found, str) or is_time(found)
            case "minimum":
                return lambda found: type(found) not in (int, float) or found >= value
            case "maximum":
                return lambda found: type(found) not in (int, float) or found <= value
            case "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties":
                return _size(name, value)
            case "required":
                wanted = frozenset(value)
                return lambda found: not isinstance(found, dict) or found.keys() >= wanted
            case "items":
                return self._items(value)
            case "propertyNames":
                named = self.check(value)
                return lambda found: not isinstance(found, dict) or all(map(named, found))
            case "properties":
                inner = {key: self.check(one) for key, one in value.items()}
                return _properties(inner)
            case "additionalProperties":
                return self._additional(value, frozenset(node.get("properties", ())))
        raise ValueError(f"the keyword {name!r} is not known")

    def _closed_object(self, node: Mapping[str, Any]) -> _Check:
        """Return one function for the keywords of nearly all objects of our schemas, which is twice as fast."""
        inner = {key: self.check(one) for key, one in node["properties"].items()}
        wanted = frozenset(node["required"])

        def check(value: Any) -> bool:
            if type(value) is not dict or not value.keys() >= wanted:
                return False
            for key, one in value.items():
                each = inner.get(key)
                if each is None or not each(one):
                    return False
            return True

        return check

    def _reference(self, place: str) -> _Check:
        if place not in self._known:
            # A schema can refer to itself. A reference finds this function until the check of its target is complete.
            self._known[place] = lambda value: self._known[place](value)
            self._known[place] = self.check(self._target(place))
        return self._known[place]

    def _target(self, place: str) -> Any:
        node: Any = self._root
        for name in filter(None, place.removeprefix("#").split("/")):
            node = node[name]
        return node

    def _items(self, node: Mapping[str, Any]) -> _Check:
        target = self._target(node["$ref"]) if set(node) == {"$ref"} else node
        if {*target} - _REMARKS == {"type", "minimum", "maximum"} and target["type"] == "integer":
            low, high = target["minimum"], target["maximum"]
            return lambda found: not isinstance(found, list) or are_integers(found, low, high)
        each = self.check(node)
        return lambda found: not isinstance(found, list) or all(map(each, found))

    def _additional(self, node: Any, named: frozenset[str]) -> _Check:
        if node is False:
            return lambda found: not isinstance(found, dict) or named.issuperset(found)
        each = self.check(node)
        return lambda found: (
            not isinstance(found, dict) or all(each(one) for key, one in found.items() if key not in named)
        )


def _all_of(checks: list[_Check]) -> _Check:
    def check(value: Any) -> bool:
        for one in checks:  # noqa: SIM110 - all() with a generator takes half as long again
            if not one(value):
                return False
        return True

    return check


def _properties(inner: Mapping[str, _Check]) -> _Check:
    def check(value: Any) -> bool:
        if isinstance(value, dict):
            for key, one in value.items():
                if key in inner and not inner[key](one):
                    return False
        return True

    return check


def _type(names: list[str]) -> _Check:
    kinds = frozenset(kind for name in names for kind in _TYPES[name])
    if float in kinds:
        return lambda value: type(value) in kinds and (type(value) is not float or math.isfinite(value))
    if len(kinds) == 1:
        (kind,) = kinds
        return lambda value: type(value) is kind
    return lambda value: type(value) in kinds


def _one_of(values: list[Any]) -> _Check:
    # In Python, True equals 1.
    return lambda found: any(type(found) is type(one) and found == one for one in values)


def _size(name: str, bound: int) -> _Check:
    kind = {"Length": str, "Items": list, "Properties": dict}[name[len("min") :]]
    if name.startswith("min"):
        return lambda found: not isinstance(found, kind) or len(found) >= bound
    return lambda found: not isinstance(found, kind) or len(found) <= bound
