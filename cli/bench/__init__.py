# SPDX-License-Identifier: MIT
"""`iommufd bench`: time DMA map and unmap, read and compare the results."""

import importlib

import click

from ..commands import Group

# Imported when used: commands that only read results then need no compiled extension and no Linux kernel.
_COMMANDS = {
    "run": "Time IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP, or other operations.",
    "show": "Show a result: the machine, the times, the limits of the figures.",
    "compare": "Compare results with the first one: ratio, interval, verdict.",
    "plot": "Draw results.",
    "export": "Print a result in pyperf's file format.",
    "history": "Find the result at which an operation became slower or faster.",
    "trace": "Divide the kernel's time between pinning, page tables, flushes.",
    "patch": "Compare the kernels of the lab, for a cover letter.",
    "calibrate": "Compare a kernel with itself: the error of this machine.",
}
_IN_RESULTS = ("show", "compare", "export")


class _Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = "results" if cmd_name in _IN_RESULTS else cmd_name
        command: click.Command = getattr(importlib.import_module(f".{module}", __package__), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands)
def bench() -> None:
    """Time DMA map and unmap, and everything else that fills or empties a domain.

    Options that take a list (4K,2M) are axes: every combination of their values is a row.
    """
