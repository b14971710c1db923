# SPDX-License-Identifier: MIT
"""Time map and unmap from Python, and write a result that 'iommufd bench show' reads.

iommufd lab run --native -- python docs/examples/benchmark.py run.json
"""

import sys
from pathlib import Path

from iommufd_py.bench.runner import Plan, measure
from iommufd_py.results import document, report
from iommufd_py.results.model import Point, Workload

points = tuple(Point(Workload.MAP, size) for size in (64 << 10, 2 << 20))
result = measure(Plan("mock", points, processes=2, row_seconds=0.05))
for cell in report.cells(result):
    size, median = cell.row.point.size_bytes >> 10, cell.summary.median_ns / 1000
    print(f"{size} KiB {cell.operation}: {median:.1f} us")
for note in report.notes(result):  # the reasons to doubt these figures
    print(note)
document.save(result, Path(sys.argv[1]))
