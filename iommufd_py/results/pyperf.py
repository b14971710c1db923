# SPDX-License-Identifier: MIT
"""Convert a result to the file format of pyperf 1.0, for its tools (``pyperf stats``, ``hist``, ``compare_to``).

The values are the independent figures of ``bench compare``: the median of each boot if there are three boots, else of
each process. pyperf compares the means of all values. With all samples as values, a few long samples would decide. With
a value for each process of a boot, pyperf would count the boot several times. A figure of 0 ns, less than one step of
the clock, is left out: with one, pyperf refuses the file.
"""

from collections.abc import Iterator
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.results.estimate import units
from iommufd_py.results.model import BenchResult, Row
from iommufd_py.results.report import floors_of, notes, row_name


def to_pyperf(result: BenchResult) -> dict[str, Any]:
    """Return *result* as a pyperf suite, with a benchmark for each operation of each row.

    Each independent figure is a run.

    Source: https://pyperf.readthedocs.io/en/latest/api.html, "Metadata" and the JSON that ``Benchmark.dump`` writes.

    Raises:
        ToolError: there is no figure above 0 ns. pyperf reads no suite without a benchmark.
    """
    figures = [(row, operation, [ns for ns in every if ns > 0]) for row, operation, every in _figures(result)]
    if not any(shown for _, _, shown in figures):
        raise ToolError("there is nothing to export: the result has no operation with a time above 0 ns")
    environment, date = result.environment, result.started.replace("T", " ").partition("+")[0]
    return {
        "version": "1.0",
        "metadata": {
            "unit": "second",
            "platform": f"Linux-{environment.kernel_release} ({environment.platform})",
            "cpu_model_name": environment.cpu,
            "cpu_count": environment.cpus,
            "command": result.repeat_command,
            "label": result.label,
            "floor": f"an ioctl that does nothing takes {floors_of([result])[1]}",
            **({"limits": " / ".join(limits)} if (limits := notes(result)) else {}),
        },
        "benchmarks": [
            {
                "metadata": {"name": f"{operation}: {row_name(row.point)}", "loops": 1},
                "runs": [
                    {
                        "metadata": {"date": date},
                        "values": [ns / 1e9],
                    }
                    for ns in shown
                ],
            }
            for row, operation, shown in figures
            if shown
        ],
    }


def left_out(result: BenchResult) -> list[str]:
    """Return a sentence for each operation with figures that :func:`to_pyperf` leaves out."""
    return [
        f"{operation} of {row_name(row.point)}: {short} of {len(every)} figures are left out, because they are 0 ns, "
        "less than one step of the clock, which pyperf refuses"
        for row, operation, every in _figures(result)
        if (short := sum(ns <= 0 for ns in every))
    ]


def _figures(result: BenchResult) -> Iterator[tuple[Row, str, list[float]]]:
    for row in result.rows:
        for operation in row.operations:
            yield row, operation, [one.ns for one in units(row, operation, result.floor)]
