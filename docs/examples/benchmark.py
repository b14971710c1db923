# SPDX-License-Identifier: MIT
"""Time map and unmap from Python, and keep the result for 'iommufd bench show' and 'bench compare'.

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
    print(f"{cell.row.point.size_bytes >> 10} KiB {cell.operation}: {cell.summary.median_ns / 1000:.1f} us")
for note in report.notes(result):  # what makes these figures doubtful
    print(note)
document.save(result, Path(sys.argv[1]))
