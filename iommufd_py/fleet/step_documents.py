# SPDX-License-Identifier: MIT
"""Read the documents that steps print, which come from other machines. Each must have the parts that a verdict needs.

The schemas here name those parts only, so that a document of another version of the tool is read too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iommufd_py.results.conform import conforms_to
from iommufd_py.results.schema import parsed_file

_TEXT = {"type": "string"}
_RULE = {"enum": ["kept", "counts agree", "violated", "not observed"]}
_OUTCOME = {"enum": [*_RULE["enum"], "kernel report", "counters disagree", "error"]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list_of_some(each: Any) -> dict[str, Any]:
    # An empty list of cases would be a verdict about nothing.
    return {"type": "array", "minItems": 1, "items": each}


_SCHEMAS: Mapping[str, Any] = {
    "iommufd-validate/1": _object(
        outcome=_OUTCOME,
        rules=_object(**{"1": _RULE, "2": _RULE, "3": _RULE}),
        scenarios=_list_of_some(
            _object(name=_TEXT, outcome=_OUTCOME, violations={"type": "array", "items": _object(rule={})})
        ),
        not_observed={"type": ["string", "null"]},
        doubts={"type": "array", "items": _TEXT},
        counts_suffice={"type": "boolean"},
    ),
    "iommufd-dma-check/1": _object(cases=_list_of_some(_object(name=_TEXT, verdict=_TEXT))),
    "iommufd-dma-coherency/1": _object(cases=_list_of_some(_object(name=_TEXT, verdict=_TEXT))),
}

_CHECKS = {name: conforms_to(schema) for name, schema in _SCHEMAS.items()}


def step_document(file: Path, schema: str) -> Any:
    """Return the document in *file*, whose ``schema`` must be *schema*.

    Raises:
        ToolError: the file cannot be read, or holds something else.
        ValueError: the document has another schema, or lacks a part.
    """
    document = parsed_file(file, f"give the output of a step ({schema})")
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        raise ValueError(f"{file.name} has the schema {found!r}, not {schema}")
    if not _CHECKS[schema](document):
        raise ValueError(f"{file.name} lacks a part of {schema}, or has no case")
    return document
