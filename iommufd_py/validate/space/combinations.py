# SPDX-License-Identifier: MIT
"""Spaces of scenarios: dimensions, and a scenario for each row of a covering array."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.space.covering import (
    Axes,
    Forbidden,
    Row,
    Value,
    complete,
    covering_array,
    impossible_values,
    is_possible,
    values_of,
)

_PAIRS, _TRIPLES = 2, 3


@dataclass(frozen=True, eq=False)
class Space:
    """A group of scenarios. Each of them has one value of each dimension.

    Attributes:
        name: the first part of the scenarios' names.
        axes: the dimensions and their values, at most ten for each.
        forbidden: impossible combinations of values.
        functions: kernel functions that the scenarios test.
        play: runs the operations of a row.
    """

    name: str
    axes: Axes
    forbidden: tuple[Forbidden, ...]
    functions: tuple[str, ...]
    play: Callable[[ScenarioContext, Row], None]

    @cache  # noqa: B019 - the spaces are constants.
    def scenarios(self, *, full: bool = False) -> tuple[Scenario, ...]:
        """Return scenarios that contain all pairs of values, with *full* all triples."""
        return tuple(map(self._scenario, covering_array(self.axes, self.forbidden, _strength(full))))

    def substitutes(self, observed: Mapping[str, bool], *, full: bool = False) -> tuple[Scenario, ...]:
        """Return scenarios for the pairs (with *full* the triples) that were lost with scenarios that could not run.

        Some values are impossible on some machines, for example a coherent domain behind an IOMMU that makes none. The
        scenarios with such a value cannot run, and their other values are then combined again. Call this again with
        the results of the substitutes, until it returns none.

        Args:
            observed: by the name of each scenario, whether it could be observed.
            full: as for :meth:`scenarios`.
        """
        tried = {name: self._row(name) for name in observed if name.rpartition("-")[0] == self.name}
        seen = [row for name, row in tried.items() if observed[name]]
        unseen = [row for name, row in tried.items() if not observed[name]]
        if not seen:
            return ()
        impossible = impossible_values(seen, unseen)
        axes = {axis: [one for one in values if (axis, one) not in impossible] for axis, values in self.axes.items()}
        rows: list[Row] = []
        for row in self._trials(axes, values_of(seen)):
            if row not in (*unseen, *rows):
                rows.append(row)
        if not rows:
            unexplained = [row for row in unseen if impossible.isdisjoint(row.items())]
            rows = covering_array(axes, self.forbidden, _strength(full), given=(*seen, *unexplained))
        return tuple(map(self._scenario, rows))

    def _trials(self, axes: Axes, ran: set[Value]) -> Iterator[Row]:
        """Return a row for each value that is in no row that ran. The other values of the row are in rows that ran."""
        for axis, values in axes.items():
            for value in values:
                if (axis, value) in ran:
                    continue
                part = {axis: value}
                good = {name: [one for one in ones if (name, one) in ran] for name, ones in axes.items()}
                row = complete(part, good, self.forbidden) or complete(part, axes, self.forbidden)
                if row is not None:
                    yield row

    def named(self, name: str) -> Scenario | None:
        """Return the scenario with this name, None if it names no possible combination."""
        space, _, code = name.rpartition("-")
        digits = [int(digit) for digit in code if "0" <= digit <= "9"]
        if space != self.name or not len(code) == len(digits) == len(self.axes):
            return None
        if any(digit >= len(values) for digit, values in zip(digits, self.axes.values(), strict=True)):
            return None
        row = self._row(name)
        return self._scenario(row) if is_possible(row, self.forbidden) else None

    def _scenario(self, row: Row) -> Scenario:
        code = "".join(str(list(self.axes[axis]).index(value)) for axis, value in row.items())
        told = ", ".join(f"{axis} {value}" for axis, value in row.items())
        return Scenario(
            name=f"{self.name}-{code}",
            rules=(1, 2, 3),
            functions=self.functions,
            what=f"A combination: {told}.",
            why="Some mistakes appear only in combinations. Every pair of values is in one of these scenarios.",
            play=lambda context: self.play(context, row),
        )

    def _row(self, name: str) -> Row:
        code = name.rpartition("-")[2]
        return {axis: values[int(digit)] for (axis, values), digit in zip(self.axes.items(), code, strict=True)}


def _strength(full: bool) -> int:
    return _TRIPLES if full else _PAIRS
