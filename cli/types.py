# SPDX-License-Identifier: MIT
"""Parameters as people type them."""

import click

from iommufd_py.units import parse_size

__all__ = ["SIZE", "SIZES"]


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


class _Sizes(click.ParamType[tuple[int, ...]]):
    name = "size,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(SIZE.convert(part, param, ctx) for part in str(value).split(","))


SIZE = _Size()
SIZES = _Sizes()
