# SPDX-License-Identifier: MIT
"""Parameters as people type them."""

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from iommufd_py.base.pci_address import MOCK, normalize_bdf
from iommufd_py.base.units import parse_iova, parse_size


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


class Values(click.ParamType[tuple[Any, ...]]):
    """A list with commas, each part of a type of its own: ``4K,2M``, ``dirty,clean``."""

    def __init__(self, each: click.ParamType[Any]) -> None:
        self.name = f"{each.name},..."
        self._each = each

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Convert each part."""
        if isinstance(value, tuple):
            return value
        return tuple(self._each.convert(part, param, ctx) for part in str(value).split(","))


"""Names the kernel's mock driver in place of a PCI device."""


class _Bdf(click.ParamType[str]):
    """A PCI address; a shell completes those there are, or those that this tool took."""

    name = "bdf"

    def __init__(self, *, only_taken: bool = False, or_mock: bool = False) -> None:
        self._only_taken = only_taken
        self._or_mock = or_mock

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return MOCK if self._or_mock and value == MOCK else normalize_bdf(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from iommufd_py import pci

        taken = pci.remembered()
        devices = [one for one in pci.list_devices() if not self._only_taken or one.bdf in taken]
        return [
            CompletionItem(one.bdf, help=f"{one.ids} {one.driver or 'no driver'} {one.name or one.class_name}".strip())
            for one in devices
            if one.bdf.startswith((incomplete, f"0000:{incomplete}"))
        ]


BDF = _Bdf()
TAKEN_BDF = _Bdf(only_taken=True)
BDF_OR_MOCK = _Bdf(or_mock=True)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
SIZE = _Number("size", parse_size)
IOVA = _Number("iova", parse_iova)
SIZES = Values(SIZE)
