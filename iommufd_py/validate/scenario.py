# SPDX-License-Identifier: MIT
"""What a scenario is."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc

from iommufd_py.validate.context import ScenarioContext


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that is done with the kernel, of which the rules say what must be flushed.

    Attributes:
        name: of theme and subject, as ``map-non-coherent``.
        rules: those it tests.
        functions: kernel functions that it goes through.
        what: one sentence.
        why: which mistake it would show.
        play: does it.
    """

    name: str
    rules: tuple[int, ...]
    functions: tuple[str, ...]
    what: str
    why: str
    play: Callable[[ScenarioContext], None]


def scenario(rules: tuple[int, ...], *functions: str) -> Callable[[Callable[[ScenarioContext], None]], Scenario]:
    """Make a function a scenario; its docstring says what is done, and from the second paragraph on, why."""

    def make(play: Callable[[ScenarioContext], None]) -> Scenario:
        what, _, why = cleandoc(play.__doc__ or "").partition("\n\n")
        return Scenario(play.__name__.replace("_", "-"), rules, functions, what, why, play)

    return make
