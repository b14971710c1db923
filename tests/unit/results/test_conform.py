# SPDX-License-Identifier: MIT
"""The quick check of documents agrees with the library jsonschema on every document."""

import copy
import itertools
import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iommufd_py.results import schema
from iommufd_py.results.conform import are_integers, conforms_to
from tests.unit.results.test_damaged_files import MUTANTS, changed, good, places
from tests.waiting import patience

__all__ = ["good"]


@pytest.mark.slow
def test_it_agrees_on_every_damaged_result(good: Any) -> None:
    quick, library = conforms_to(schema.read_schema("iommufd-bench/1")), schema._validator("iommufd-bench/1")
    values = itertools.cycle([*MUTANTS, KeyError])
    refused = 0
    for place in places(good):
        # The library is slow: every value is tried at some places, and every place with three values.
        for value in itertools.islice(values, 3):
            spoiled = changed(good, place, value)
            assert quick(spoiled) == library.is_valid(spoiled), (place, value)
            refused += not quick(spoiled)
    assert refused > 100
    assert quick(good)


@pytest.mark.parametrize(
    ("values", "good"),
    [([], True), ([0, 7], True), ([-1, 3], False), ([3, 8], False), ([3, True], False), ([3, 4.0], False)],
)
def test_samples_are_integers_in_their_range(values: list[Any], good: bool) -> None:
    assert are_integers(values, 0, 7) == good


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-3, 3).filter(lambda one: one != int(one))
    | st.text("ab\n", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
_LEAF = st.sampled_from(
    [
        {"type": "integer", "minimum": 0, "maximum": 2},
        {"type": ["number", "null"], "minimum": -1},
        {"type": "string", "maxLength": 1},
        {"type": "string", "minLength": 2, "not": {"pattern": "b"}},
        {"enum": [1, "a", None]},
        {"const": True},
        {"pattern": "^a$(?!\\n)"},
        {"$ref": "#/$defs/leaf"},
    ]
)
_SCHEMAS = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.builds(lambda one: {"type": "array", "items": one, "minItems": 1, "maxItems": 2}, inner),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
        st.builds(
            lambda one, two: {
                "type": "object",
                "properties": {"a": one},
                "additionalProperties": two,
                "required": ["a"],
                "minProperties": 1,
                "propertyNames": {"pattern": "[ab]"},
            },
            inner,
            inner,
        ),
        st.builds(lambda one: {"properties": {"a": one}, "additionalProperties": False}, inner),
        st.builds(
            lambda one: {
                "type": "object",
                "properties": {"a": one, "b": {}},
                "required": ["b"],
                "additionalProperties": False,
            },
            inner,
        ),
    ),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, database=None)
@given(_SCHEMAS, _VALUES)
def test_it_agrees_on_generated_schemas(described: Any, value: Any) -> None:
    whole = {"$defs": {"leaf": {"type": "integer", "minimum": 1, "maximum": 2}}, **copy.deepcopy(described)}
    assert conforms_to(whole)(value) == jsonschema.Draft202012Validator(whole).is_valid(value)


def test_an_unknown_keyword_is_an_error() -> None:
    with pytest.raises(ValueError, match="'multipleOf' is not known"):
        conforms_to({"type": "integer", "multipleOf": 2})


@pytest.mark.parametrize("name", list(schema._FILES))
def test_every_schema_is_known(name: str) -> None:
    assert not conforms_to(schema.read_schema(name))({})


@pytest.mark.slow
def test_a_result_with_millions_of_samples_is_checked_in_little_time(good: Any, tmp_path: Path) -> None:
    good = copy.deepcopy(good)
    good["rows"][0]["runs"][0]["operations"]["map"]["ns"] = [1000] * 2_000_000
    file = tmp_path / "run.json"
    file.write_text(json.dumps(good))
    start = time.process_time()
    assert conforms_to(schema.read_schema("iommufd-bench/1"))(good)
    assert time.process_time() - start < patience(1)
