# SPDX-License-Identifier: MIT
"""The `iommufd` command as a user starts it: by its path, and by the search path of a shell."""

import os
import sys
from pathlib import Path

_DIRECTORY = Path(sys.executable).parent
IOMMUFD = str(_DIRECTORY / "iommufd")
SEARCH_PATH = f"{_DIRECTORY}:{os.environ['PATH']}"
