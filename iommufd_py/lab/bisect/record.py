# SPDX-License-Identifier: MIT
"""The verdicts of a bisection in a file, so that the same command continues after an interruption."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from iommufd_py.base.files import write_file
from iommufd_py.lab.bisect.trial import CommitVerdict, Trial
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.records import read_object
from iommufd_py.results.conform import conforms_to

Guest = Literal["native", "vm"]

_TRIAL: Mapping[str, Any] = {
    "commit": {"type": "string", "pattern": "^[0-9a-f]{40,64}$(?!\\n)"},
    "verdict": {"enum": [one.value for one in CommitVerdict]},
    "evidence": {"type": "string"},
    "seconds": {"type": "number"},
}
_FITS = conforms_to(
    {
        "type": "object",
        "required": ["guest", "trials"],
        "properties": {
            "guest": {"enum": [*get_args(Guest)]},
            "trials": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": [*_TRIAL],
                    "properties": _TRIAL,
                },
            },
        },
    }
)


class Record:
    """The record in *file*; empty if the file does not exist.

    Attributes:
        trials: one for each tested commit, in order.
        guest: the kind of guest in which commits run.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.guest: Guest = "native"
        self._trials: dict[str, Trial] = {}
        if file.exists():
            document = read_object(file)
            if not _FITS(document):
                raise LabError(
                    f"{file}, the record of an earlier bisection, is damaged: remove it to begin anew with "
                    f"'rm {shlex.quote(str(file))}'"
                )
            self.guest = document["guest"]
            for one in document["trials"]:
                self._trials[one["commit"]] = Trial(**(one | {"verdict": CommitVerdict(one["verdict"])}))

    @property
    def trials(self) -> Sequence[Trial]:
        """The trials."""
        return tuple(self._trials.values())

    def of(self, commit: str) -> Trial | None:
        """Return the trial of a commit; None if it was not tested."""
        return self._trials.get(commit)

    def add(self, trial: Trial) -> Trial:
        """Add a trial and return it."""
        self._trials[trial.commit] = trial
        self._save()
        return trial

    def replace(self, trial: Trial) -> Trial:
        """Replace the trial of a commit by a new one, which becomes the newest of all, and return it."""
        del self._trials[trial.commit]
        return self.add(trial)

    def use(self, guest: Guest) -> None:
        """Change the kind of guest. Trials in another kind of guest no longer count."""
        self.guest = guest
        self._trials.clear()
        self._save()

    def _save(self) -> None:
        document = {"guest": self.guest, "trials": [asdict(one) for one in self.trials]}
        write_file(self._file, json.dumps(document, indent=2).encode())
