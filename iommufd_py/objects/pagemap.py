# SPDX-License-Identifier: MIT
"""The page frames behind the memory of a process, and their physically contiguous runs.

Source: Documentation/admin-guide/mm/pagemap.rst.
"""

import mmap
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from iommufd_py.base.sysfs import limit_named

# The frame number is 0 without privilege. A page that is not present may be swapped out; then these bits are its place
# in the swap area.
_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1


def frame_number(entry: int) -> int:
    """Return the frame number in an entry of /proc/pid/pagemap, 0 where the page is not present."""
    # The argument is not checked: a check for each page of a large buffer takes longer than the read.
    return entry & _FRAME if entry & _PRESENT else 0


def page_frames(process: int | str, start: int, length: int) -> list[int]:
    """Return the frame number of each page from the address *start* of a process, a PID or ``self``.

    It is 0 for a page that is not present, and for every page without root. The list ends where the memory ends.

    Raises:
        ToolError: too many files are open.
        OSError: the process has ended, or belongs to another user.
    """
    entries = array("Q")
    file = Path(f"/proc/{process}/pagemap")
    with limit_named(file), file.open("rb") as pagemap:
        pagemap.seek(start // mmap.PAGESIZE * entries.itemsize)
        whole = pagemap.read(length // mmap.PAGESIZE * entries.itemsize)
    entries.frombytes(whole[: len(whole) // entries.itemsize * entries.itemsize])
    return [frame_number(entry) for entry in entries]


def contiguous_runs(frames: Sequence[int]) -> Counter[int]:
    """Count the runs of consecutive frames by their length in pages. A page without a frame (0) is in no run."""
    ends = [at for at, (one, other) in enumerate(pairwise(frames), 1) if not one or other != one + 1]
    return Counter(end - start for start, end in pairwise([0, *ends, len(frames)]) if start < end and frames[start])
