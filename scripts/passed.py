# SPDX-License-Identifier: MIT
"""Remember which tests passed with which inputs, and how long they took. Used for jobs and for files of unit tests."""

import json
import os
from pathlib import Path


class Passed:
    """A folder with one record for each name. Several processes may read and write it at the same time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, name: str, key: str) -> bool:
        """Return whether *name* passed the last time, and with the inputs *key*."""
        return self._record(name).get("key") == key

    def seconds(self, name: str, default: float) -> float:
        """Return the time that *name* took when it last passed, or *default*."""
        return float(self._record(name).get("seconds", default))

    def add(self, name: str, key: str, seconds: float) -> None:
        """Record that *name* passed with the inputs *key*."""
        file = self._file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        # Another process reads the old record or the new one, and never a part.
        new = file.with_name(f".{file.name}.{os.getpid()}")
        new.write_text(json.dumps({"key": key, "seconds": round(seconds, 1)}))
        new.replace(file)

    def remove(self, name: str) -> None:
        """Forget that *name* passed."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _record(self, name: str) -> dict[str, str | float]:
        try:
            record: dict[str, str | float] = json.loads(self._file(name).read_text())
        except (FileNotFoundError, ValueError):
            return {}  # A power failure can leave an empty file.
        return record
