# SPDX-License-Identifier: MIT
"""The `iommufd` command as a user starts it: by its path, and by the search path of a shell."""

import os
import sys
from pathlib import Path

_DIRECTORY = Path(sys.executable).parent
IOMMUFD = str(_DIRECTORY / "iommufd")
SEARCH_PATH = f"{_DIRECTORY}:{os.environ['PATH']}"
MAY_READ_ALL = "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
"""Words for setpriv(1). With them another user can read the checkout, even if only its owner has the permission."""
