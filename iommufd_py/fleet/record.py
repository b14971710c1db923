# SPDX-License-Identifier: MIT
"""The result directory of a run: one folder for each machine, with its record and the files of its steps.

DIR/PLACE/runner.json                the record; until the machine is lent, its folder is "DIR/runner NUMBER"
DIR/PLACE/serial.log                 the output of its serial console
DIR/PLACE/KERNEL.REPETITION.STEP/    result.json, result.xml, result.ktap, log.txt
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import write_file
from iommufd_py.results import schema as schemas

SCHEMA = "iommufd-fleet-runner/1"
FILE = "runner.json"
SERIAL_LOG = "serial.log"
LOG = "log.txt"
_WAITING = re.compile(r"runner [0-9]+")
# Control characters, halves of characters, and the characters that change the direction of text or are not seen: those
# of bench-1.json.
_ODD = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]|[\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


class RunnerState(StrEnum):
    """The progress of a machine through the plan."""

    RUNNING = "running"
    """The machine has not finished. If the run is over, its worker was killed, and the machine counts as lost."""
    DONE = "done"
    FAILED = "failed"
    """The machine answers, but its set-up failed."""
    LOST = "lost"
    """The machine was lent and does not answer."""
    NOT_LENT = "not lent"
    STOPPED = "stopped"
    """The run was stopped before the machine finished."""


class StepState(StrEnum):
    """How a step ended."""

    ENDED = "ended"
    FAILED = "failed"
    """The step could not be started, or its results could not be fetched."""
    TIMED_OUT = "timed out"
    LOST = "lost"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """One kernel on one machine.

    Attributes:
        name: its name in the plan.
        release: ``uname -r``.
        tool_version: ``iommufd --version`` there.
    """

    name: str
    release: str
    tool_version: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step on one kernel of one machine.

    Attributes:
        kernel: name of the kernel in the plan.
        repetition: number of the repetition, from 1.
        name: name of the step.
        kind: its command.
        state: how it ended.
        exit_status: exit status of the command; None if it has none.
        seconds: its duration.
    """

    kernel: str
    repetition: int
    name: str
    kind: str
    state: StepState
    exit_status: int | None
    seconds: float

    @property
    def folder(self) -> str:
        """Name of the folder with the files of the step."""
        return step_folder(self.kernel, self.repetition, self.name)


def waiting_name(number: int) -> str:
    """Return the name that a machine has in the report until labgrid lends it."""
    return f"runner {number}"


def machine_folder(name: str) -> str:
    """Return the name of the folder of a machine. A place of labgrid can have any name: ``a/b``, ``..``."""
    if _WAITING.fullmatch(name):
        return name
    # Without a space, so a place takes the folder of a machine that waits only if it has the name of that machine.
    folder = quote(name, safe="")
    return folder if folder.strip(".") else folder.replace(".", "%2E")


def step_folder(kernel: str, repetition: int, step: str) -> str:
    """Return the name of the folder of a step. It is the same on the machine and in the result directory."""
    return f"{kernel}.{repetition}.{step}"


@dataclass(frozen=True, slots=True)
class RunnerRecord:
    """The record of one machine.

    Attributes:
        name: name of its place; for a machine that was not lent, ``runner`` and its number in the plan.
        state: its progress through the plan.
        reason: why it did not finish; empty if it finished.
        tags: tags of the place.
        started: when it was lent, ISO 8601.
        kernels: the kernels that ran.
        steps: the steps that were started.
        baseline: the kernel with which the others are compared, or None.
        run: name of the run.
    """

    name: str
    state: RunnerState
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    kernels: tuple[KernelFacts, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    baseline: str | None = None
    run: str = ""

    def save(self, folder: Path) -> None:
        """Write the record.

        Raises:
            ToolError: the file cannot be written.
        """
        write_file(folder / FILE, (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n").encode())


def load_record(folder: Path) -> RunnerRecord:
    """Read the record of a machine.

    Raises:
        ToolError: the record is missing or damaged. The text names the place in the file.
    """
    document = _plain_all(schemas.read_document(no_pipe(folder / FILE), SCHEMA))
    del document["schema"]
    steps = tuple(StepRecord(**one | {"state": StepState(one["state"])}) for one in document["steps"])
    known: set[str] = set()
    for at, step in enumerate(steps):
        if step.folder in known:
            raise ToolError(
                f"{folder / FILE} is damaged at steps/{at}: an earlier step has the same kernel, repetition and name, "
                "so its results would count twice; restore the file that 'iommufd fleet run' wrote"
            )
        known.add(step.folder)
    return RunnerRecord(
        **document
        | {
            "state": RunnerState(document["state"]),
            "kernels": tuple(KernelFacts(**one) for one in document["kernels"]),
            "steps": steps,
        }
    )


def no_pipe(file: Path) -> Path:
    """Return the path of a file of the result directory. Nobody writes to a pipe there, so a read would not end.

    Raises:
        ToolError: it is a pipe, a device or a directory.
    """
    if file.exists() and not file.is_file():
        raise ToolError(f"{file} is not a regular file: restore the file that 'iommufd fleet run' wrote")
    return file


def plain(text: str) -> str:
    """Return *text* without the characters that XML, KCIDB or a terminal refuse or obey."""
    return _ODD.sub("?", text)


def _plain_all(value: Any) -> Any:
    """Return a document whose texts are plain: names and releases come from other machines."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [_plain_all(one) for one in value]
    return {plain(key): _plain_all(one) for key, one in value.items()} if isinstance(value, dict) else value


def folders(directory: Path) -> list[Path]:
    """Return the folders of the machines in the directory of a run.

    Raises:
        ToolError: the directory has no folder of a machine, or a folder without a record.
    """
    found = sorted(path for path in directory.iterdir() if path.is_dir())
    bare = [path for path in found if not (path / FILE).exists()]
    if len(bare) == len(found):
        raise ToolError(f"{directory} holds no {FILE}: give the directory that 'iommufd fleet run --output' wrote")
    if bare:
        raise ToolError(
            f"{bare[0]} holds no {FILE}, so its machine would be missing from the report: restore the file, or remove "
            "the folder if it is not of a machine"
        )
    return found


def load_records(directory: Path) -> list[tuple[Path, RunnerRecord]]:
    """Read the records of one run, each with its folder.

    Raises:
        ToolError: a record is missing or damaged, is there twice, or belongs to another run.
    """
    found = [(folder, load_record(folder)) for folder in folders(directory)]
    (first, expected), *_ = found
    names: dict[str, Path] = {}
    for folder, record in found:
        if record.name in names:
            raise ToolError(
                f"{names[record.name]} and {folder} are both results of {record.name!r}: remove the copy, so that the "
                "report counts the machine once"
            )
        names[record.name] = folder
        for subject, mine, other in (
            ("run", record.run, expected.run),
            ("baseline", record.baseline, expected.baseline),
        ):
            if mine != other:
                raise ToolError(
                    f"{first} and {folder} are of two runs (the {subject} is {other!r} and {mine!r}): give the results "
                    "of one run"
                )
    return found
