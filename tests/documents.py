# SPDX-License-Identifier: MIT
"""Compare the JSON documents that commands print with their published schemas."""

import json
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


@cache
def schemas() -> dict[str, Any]:
    """Return the published JSON Schemas by the name that a document gives in ``schema``."""
    files = (path for pattern in ("cli/schemas/*.json", "iommufd_py/*/*.json") for path in _ROOT.glob(pattern))
    found = [json.loads(file.read_text()) for file in files]
    return {one["properties"]["schema"]["const"]: one for one in found if "$schema" in one}


def check_documents(text: str) -> None:
    """Check each document of a command's output against its schema. Other text passes.

    A field that is not in the schema is an error here. For users it is not, because new fields may be added.
    """
    for document in _documents(text):
        import jsonschema  # The import takes a second on an emulated CPU, and most output is not a document.

        schema = schemas()[document["schema"]]
        jsonschema.Draft202012Validator(_closed(schema)).validate(document)


def _documents(text: str) -> list[dict[str, Any]]:
    if not text.startswith("{"):
        return []
    try:
        found = [json.loads(text)]
    except ValueError:
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return [one for one in found if "schema" in one]


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed
