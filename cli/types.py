# SPDX-License-Identifier: MIT
"""Parameters as people type them."""

from collections.abc import Callable

import click

from iommufd_py.units import parse_iova, parse_size

__all__ = ["IOVA", "SIZE", "SIZES"]


class _Number(click.ParamType[int]):
    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self._parse(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


class _Sizes(click.ParamType[tuple[int, ...]]):
    name = "size,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(SIZE.convert(part, param, ctx) for part in str(value).split(","))


SIZE = _Number("size", parse_size)
IOVA = _Number("iova", parse_iova)
SIZES = _Sizes()
