# SPDX-License-Identifier: MIT
"""The result directory of a run: one folder for each machine, with its record and the files of its steps.

DIR/plan.toml                        a copy of the plan
DIR/PLACE/runner.json                the record
DIR/PLACE/serial.log                 the output of its serial console
DIR/PLACE/KERNEL.REPETITION.STEP/    result.json, result.xml, result.ktap, log.txt
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import read_file, write_file

SCHEMA = "iommufd-fleet-runner/1"
FILE = "runner.json"
SERIAL_LOG = "serial.log"
LOG = "log.txt"


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


def step_folder(kernel: str, repetition: int, step: str) -> str:
    """Return the name of the folder of a step. It is the same on the machine and in the result directory."""
    return f"{kernel}.{repetition}.{step}"


@dataclass(frozen=True, slots=True)
class RunnerRecord:
    """The record of one machine.

    Attributes:
        name: name of its place; for a machine that was not lent, ``runner-`` and its number in the plan.
        state: its progress through the plan.
        reason: why it did not finish; empty if it did.
        tags: tags of the place.
        started: when it was lent, ISO 8601.
        kernels: the kernels that ran.
        steps: the steps that were started.
        baseline: the kernel with which the others are compared, or None.
    """

    name: str
    state: RunnerState
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    kernels: tuple[KernelFacts, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    baseline: str | None = None

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
    path = folder / FILE
    try:
        document = json.loads(read_file(path).decode())
    except OSError as failure:
        raise ToolError(f"{path} cannot be read: {failure.strerror}") from None
    except (ValueError, RecursionError):
        raise ToolError(f"{path} is not JSON: run 'iommufd fleet run' again") from None
    from jsonschema.exceptions import best_match

    problem = best_match(_validator().iter_errors(document))
    if problem is not None:
        place = "/".join(map(str, problem.absolute_path)) or "its top level"
        raise ToolError(f"{path} is damaged at {place}: {problem.message[:200]}; run 'iommufd fleet run' again")
    del document["schema"]
    return RunnerRecord(
        **document
        | {
            "state": RunnerState(document["state"]),
            "kernels": tuple(KernelFacts(**one) for one in document["kernels"]),
            "steps": tuple(StepRecord(**one | {"state": StepState(one["state"])}) for one in document["steps"]),
        }
    )


def folders(directory: Path) -> list[Path]:
    """Return the folders of the machines in the directory of a run.

    Raises:
        ToolError: the directory has no folder of a machine.
    """
    found = sorted(path.parent for path in directory.glob(f"*/{FILE}"))
    if not found:
        raise ToolError(f"{directory} holds no {FILE}: give the directory that 'iommufd fleet run --output' wrote")
    return found


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(Path(__file__).with_name("runner-1.json").read_text(encoding="utf-8")))
