# SPDX-License-Identifier: MIT
"""Generate wrong arguments for the Python API, and check the errors that they must cause."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from iommufd_py import IommufdError, ToolError

__all__ = ["ADDRESS", "BOOL", "BYTES", "FLAGS", "INT32", "OBJECT", "SECONDS", "TEXT", "Case", "hold"]

_JUNK = st.one_of(
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.complex_numbers(),
    st.just(object()),
    st.just(int),
    st.just([10**5000]),
)


def _junk_but(*kinds: type) -> st.SearchStrategy[Any]:
    return _JUNK.filter(lambda value: not isinstance(value, kinds))


# Python writes no number with thousands of digits, so some messages cannot show their number.
_OUT_OF_64_BITS = st.integers(max_value=-1) | st.integers(min_value=1 << 64) | st.sampled_from([10**5000, -(10**5000)])
ADDRESS = _junk_but() | st.booleans() | _OUT_OF_64_BITS
"""Wrong values for a field of 64 bits: an address, a length."""
INT32 = ADDRESS | st.integers(min_value=1 << 32, max_value=(1 << 64) - 1)
"""Wrong values for a field of 32 bits: an id, a PASID."""
FLAGS = _junk_but() | st.booleans() | st.integers(max_value=-1)
OBJECT = _junk_but() | st.booleans() | st.integers()
"""Wrong values for an argument that must be an object of this package."""
BOOL = _junk_but() | st.integers()
TEXT = _junk_but(str) | st.booleans() | st.integers()
BYTES = _junk_but(bytes) | st.booleans() | st.integers()
SECONDS = _junk_but(float) | st.booleans() | st.floats(max_value=-0.001) | st.just(float("nan"))


@dataclass(frozen=True)
class Case:
    """A call, with wrong values for each of its arguments; the other arguments are those in *right*."""

    call: Callable[..., object]
    wrong: Mapping[str, st.SearchStrategy[Any]]
    right: Mapping[str, object]

    def __str__(self) -> str:
        return getattr(self.call, "__qualname__", repr(self.call))


def hold(case: Case, *, examples: int = 12) -> None:
    """Call with one wrong argument at a time. Each call must raise an error of this package, in one sentence."""
    for name, strategy in case.wrong.items():
        _hold_one(case, name, strategy, examples)


def _hold_one(case: Case, name: str, strategy: st.SearchStrategy[Any], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def refuses(value: object) -> None:
        try:
            case.call(**{**case.right, name: value})
        except (ToolError, IommufdError) as refusal:
            text = str(refusal)
            assert 0 < len(text) < 1000
            assert "\n" not in text
        else:
            raise AssertionError(f"{case}({name}={value!r}) was accepted")

    refuses()
