# SPDX-License-Identifier: MIT
"""A run in the file format of pyperf 1.0, so that its tools (``pyperf stats``, ``hist``, ``compare_to``) read it."""

from typing import Any

from iommufd_py.results.model import BenchResult
from iommufd_py.results.report import row_name


def to_pyperf(result: BenchResult) -> dict[str, Any]:
    """Return *result* as a pyperf benchmark suite: one benchmark an operation and row, one pyperf run a process.

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
            "command": " ".join(result.command),
        },
        "benchmarks": [
            {
                "metadata": {"name": f"{operation}: {row_name(row.point)}", "loops": 1},
                "runs": [
                    {
                        "metadata": {
                            "date": date,
                            "boot_id": run.boot_id,
                        },
                        "values": [ns / 1e9 for ns in run.operations[operation].ns],
                    }
                    for run in row.runs
                ],
            }
            for row in result.rows
            for operation in row.operations
        ],
    }
