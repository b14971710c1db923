# SPDX-License-Identifier: MIT
"""Records of the lab: JSON files of the cache. A full disk or a power failure can leave one empty or cut off."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

_Record = TypeVar("_Record")


def read_object(file: Path) -> Mapping[str, Any]:
    """Return the JSON object in a file; an empty one if the file cannot be read or holds something else."""
    if not file.is_file():
        return {}  # Or a pipe: a read would wait for its writer.
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def record_of(values: object, kind: type[_Record]) -> _Record | None:
    """Return the dataclass *kind* with these values; None if one is missing, unknown or of another type."""
    hints = get_type_hints(kind)
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(values, Mapping) or set(values) != set(names):
        return None
    if not all(_fits(values[name], hints[name]) for name in names):
        return None
    return kind(**{name: tuple(one) if isinstance(one, list) else one for name, one in values.items()})


def is_text(value: object) -> bool:
    """Tell whether a value is text that a terminal can show."""
    return isinstance(value, str) and value.isprintable()


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is tuple:
        # Names of directories, which can have any characters.
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return is_text(value) if hint is str else type(value) is hint
