# SPDX-License-Identifier: MIT
"""numpy and scipy, which are loaded only if there is memory for them (extra ``report``).

Both load OpenBLAS. If OpenBLAS gets no memory when it is loaded (ulimit -v), it tries again for ever, and no signal but
SIGKILL ends that.
"""

# ruff: noqa: E402 - The check comes before the imports.
import mmap
import os

# Without it, OpenBLAS starts a thread for each CPU, and sends SIGINT to this process if it may not (ulimit -u, or the
# limit of a container). The command then ended as after Ctrl-C. Nothing here multiplies large matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# More memory than OpenBLAS and the libraries take with two threads.
_LIBRARY_BYTES = 384 << 20


def _require_memory() -> None:
    """Check that this process may have so much more memory.

    Raises:
        MemoryError: it may not.
    """
    try:
        mmap.mmap(-1, _LIBRARY_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ).close()
    except OSError as failure:
        raise MemoryError from failure


_require_memory()

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

__all__ = ["ndtri", "np", "stdtr", "stdtrit"]
