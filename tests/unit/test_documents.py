# SPDX-License-Identifier: MIT
"""Every JSON document of the tool has a published schema, and the check of documents finds errors."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from tests import documents

ROOT = Path(__file__).resolve().parents[2]
_NAME = re.compile(r'"(iommufd-[a-z-]+/[0-9]+)"')
# Files of the lab's cache, which are for the lab alone.
_INTERNAL = {"iommufd-lab-emulator/1", "iommufd-lab-kernel/1"}


def test_every_document_has_a_schema() -> None:
    sources = (path for place in ("cli", "iommufd_py", "scripts") for path in (ROOT / place).rglob("*.py"))
    named = {name for source in sources for name in _NAME.findall(source.read_text())}
    assert len(named) > 15
    assert named - _INTERNAL == set(documents.schemas()) - _INTERNAL


@pytest.mark.parametrize("name", sorted(documents.schemas()))
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(documents.schemas()[name])


@pytest.mark.parametrize(
    "changes", [{"changes": 3}, {"changes": [{"operation": "map"}]}, {"unknown": 1}, {"results": [{"file": 1}]}]
)
def test_a_document_that_is_not_as_its_schema_says_is_found(changes: dict[str, object]) -> None:
    good = {"schema": "iommufd-bench-history/1", "results": [], "changes": []}
    documents.check_documents(json.dumps(good))
    with pytest.raises(jsonschema.ValidationError):
        documents.check_documents(json.dumps(good | changes))


def test_a_document_without_a_schema_is_found() -> None:
    with pytest.raises(KeyError):
        documents.check_documents('{"schema": "iommufd-unknown/1"}')
