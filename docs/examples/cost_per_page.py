# SPDX-License-Identifier: MIT
"""Print the time that a kernel patch adds to each page of 4K, with its 99 % interval.

python docs/examples/cost_per_page.py results/native-stock.json results/native-patched.json
"""

import sys
from pathlib import Path

from iommufd_py.results import document, estimate

before, after = (document.load_result(Path(name)) for name in sys.argv[1:])
patched_rows = {row.point: row for row in after.rows}
print(f"{'size':>8}  backing       cache      operation     ns/page  interval")
for row in before.rows:
    point, pages = row.point, row.point.size_bytes // 4096
    for operation in row.runs[0].operations:
        stock = estimate.units(row, operation, before.floor)
        patched = estimate.units(patched_rows[point], operation, after.floor)
        # None unless the kernels measured in turns. Then boots of one round are compared.
        in_turns = estimate.in_turns(stock, patched)
        sides = [[one.ns / pages for one in side] for side in (stock, in_turns or patched)]
        added = estimate.difference(*sides, paired=in_turns is not None)
        known = added.low is not None
        interval = (
            f"{added.low:.2f} to {added.high:.2f}" if known else "none: too few boots"
        )
        where = f"{point.size_bytes >> 10:>7}K  {point.backing:<12}  {point.cache:<9}"
        print(f"{where}  {operation:<12} {added.value:>8.2f}  {interval}")
