# SPDX-License-Identifier: MIT
"""Convert a result to the file format of pyperf 1.0, for its tools (``pyperf stats``, ``hist``, ``compare_to``).

The values are the independent figures of ``bench compare``: the median of each boot if there are three boots, else of
each process. pyperf compares the means of all values. With all samples as values, a few long samples would decide. With
a value for each process of a boot, pyperf would count the boot several times.
"""

from typing import Any

from iommufd_py.results.estimate import units
from iommufd_py.results.model import BenchResult
from iommufd_py.results.report import row_name


def to_pyperf(result: BenchResult) -> dict[str, Any]:
    """Return *result* as a pyperf suite, with a benchmark for each operation of each row.

    Each independent figure is a run.

    Source: https://pyperf.readthedocs.io/en/latest/api.html, "Metadata" and the JSON that ``Benchmark.dump`` writes.
    """
    environment, date = result.environment, result.started.replace("T", " ").partition("+")[0]
    return {
        "version": "1.0",
        "metadata": {
            "unit": "second",
            "platform": f"Linux-{environment.kernel_release} ({environment.platform})",
            "cpu_model_name": environment.cpu,
            "cpu_count": environment.cpus,
            "command": result.repeat_command,
        },
        "benchmarks": [
            {
                "metadata": {"name": f"{operation}: {row_name(row.point)}", "loops": 1},
                "runs": [
                    {
                        "metadata": {"date": date},
                        "values": [one.ns / 1e9],
                    }
                    for one in units(row, operation, result.floor)
                ],
            }
            for row in result.rows
            for operation in row.operations
        ],
    }
