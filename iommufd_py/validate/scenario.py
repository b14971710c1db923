# SPDX-License-Identifier: MIT
"""The type of a scenario, and the decorator that makes one from a function."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc

from iommufd_py.validate.context import ScenarioContext


@dataclass(frozen=True, slots=True)
class Scenario:
    """A sequence of calls into the kernel for which the rules say which pages must be flushed.

    Attributes:
        name: theme and subject, for example ``map-non-coherent``.
        rules: the rules it tests.
        functions: kernel functions that it tests.
        what: one sentence that describes the operations.
        why: the mistake that it reveals.
        play: the function that runs it.
        is_walk: whether it is a random walk, whose steps only its output can tell.
    """

    name: str
    rules: tuple[int, ...]
    functions: tuple[str, ...]
    what: str
    why: str
    play: Callable[[ScenarioContext], None]
    is_walk: bool = False


def scenario(rules: tuple[int, ...], *functions: str) -> Callable[[Callable[[ScenarioContext], None]], Scenario]:
    """Turn a function into a scenario. The first paragraph of its docstring is ``what``, the rest is ``why``."""

    def make(play: Callable[[ScenarioContext], None]) -> Scenario:
        what, _, why = cleandoc(play.__doc__ or "").partition("\n\n")
        return Scenario(play.__name__.replace("_", "-"), rules, functions, what, why, play)

    return make
