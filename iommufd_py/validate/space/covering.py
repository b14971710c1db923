# SPDX-License-Identifier: MIT
"""Covering arrays: a small set of combinations that contains every pair (or triple) of values of different axes. Pure.

The method is that of AETG. It builds row after row, and chooses the value that covers the largest number of uncovered
pairs. The result depends only on the axes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product

Axes = Mapping[str, Sequence[str]]
Row = dict[str, str]
Forbidden = Mapping[str, frozenset[str]]
"""Sets of values by axis. A row is impossible if it has one value from each set."""

Value = tuple[str, str]
"""An axis, and one of its values."""

_Tuple = tuple[Value, ...]


def is_possible(row: Mapping[str, str], forbidden: Sequence[Forbidden]) -> bool:
    """Return whether a row, or a part of a row, is possible."""
    return not any(all(row.get(axis) in values for axis, values in condition.items()) for condition in forbidden)


def complete(part: Mapping[str, str], axes: Axes, forbidden: Sequence[Forbidden]) -> Row | None:
    """Return a possible row that contains *part*; None if no row does.

    It fills the axis with the fewest values first, because there a contradiction shows soonest.
    """
    if not is_possible(part, forbidden):
        return None
    row = dict(part)
    missing = sorted((axis for axis in axes if axis not in part), key=lambda axis: len(axes[axis]))
    return {axis: row[axis] for axis in axes} if _fill(row, missing, axes, forbidden) else None


def _fill(row: Row, missing: Sequence[str], axes: Axes, forbidden: Sequence[Forbidden]) -> bool:
    """Fill the axes of *missing* in order. Return whether that was possible; if not, *row* is as before."""
    if not missing:
        return True
    axis, *rest = missing
    # The row was possible without this axis.
    conditions = [one for one in forbidden if axis in one]
    for value in axes[axis]:
        row[axis] = value
        if is_possible(row, conditions) and _fill(row, rest, axes, forbidden):
            return True
    row.pop(axis, None)
    return False


def covering_array(
    axes: Axes, forbidden: Sequence[Forbidden], strength: int, *, given: Sequence[Row] = ()
) -> list[Row]:
    """Return rows that contain, together with the rows in *given*, every possible tuple of *strength* values."""
    rows: list[Row] = []
    # A dict keeps the order, which makes the result the same every time.
    left = dict.fromkeys(_tuples(axes, strength))
    for row in given:
        for one in _of_row(row, strength):
            left.pop(one, None)
    while left:
        start = next(iter(left))
        extended = _row(dict(start), axes, forbidden, left)
        if extended is None:
            del left[start]
            continue
        rows.append(extended)
        for one in _of_row(extended, strength):
            left.pop(one, None)
    return rows


def values_of(rows: Iterable[Row]) -> set[Value]:
    """Return the values of rows, as (axis, value)."""
    return {value for row in rows for value in row.items()}


def impossible_values(seen: Sequence[Row], unseen: Sequence[Row]) -> set[Value]:
    """Return the values with which nothing can run, from the rows that ran (*seen*) and that could not (*unseen*).

    A value is impossible if a row with it could not run, although all other values of this row are in rows that ran.
    """
    ran = values_of(seen)
    doubtful = [[value for value in row.items() if value not in ran] for row in unseen]
    return {values[0] for values in doubtful if len(values) == 1}


def _tuples(axes: Axes, strength: int) -> Iterator[_Tuple]:
    for names in combinations(axes, strength):
        for values in product(*(axes[name] for name in names)):
            yield tuple(zip(names, values, strict=True))


def _of_row(row: Row, strength: int) -> Iterator[_Tuple]:
    return combinations(row.items(), strength)


def _row(part: Row, axes: Axes, forbidden: Sequence[Forbidden], left: Mapping[_Tuple, None]) -> Row | None:
    """Extend *part* to a row that covers many of the tuples in *left*; None if no row is possible."""
    if complete(part, axes, forbidden) is None:
        return None
    row = dict(part)
    strength = len(part)
    for axis in axes:
        if axis in row:
            continue
        ranked = sorted(axes[axis], key=lambda value: -_gain(row, axis, value, axes, strength, left))
        row[axis] = next(value for value in ranked if complete({**row, axis: value}, axes, forbidden) is not None)
    return {axis: row[axis] for axis in axes}


def _gain(row: Row, axis: str, value: str, axes: Axes, strength: int, left: Mapping[_Tuple, None]) -> int:
    """Count the tuples in *left* that the value completes together with the values of the row."""
    with_value = [(name, value if name == axis else row[name]) for name in axes if name in row or name == axis]
    return sum(one in left for one in combinations(with_value, strength) if (axis, value) in one)
