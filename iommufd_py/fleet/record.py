# SPDX-License-Identifier: MIT
"""What a run leaves in a directory: one folder for each machine, with a record and the files of its steps.

DIR/plan.toml                        the plan as it was
DIR/PLACE/runner.json                the record
DIR/PLACE/serial.log                 what its serial console said
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
    """How far a machine came."""

    RUNNING = "running"
    """Not at its end. Where nobody works on it any more, its worker was killed: the machine counts as lost."""
    DONE = "done"
    FAILED = "failed"
    """It answers, but could not be made ready."""
    LOST = "lost"
    """It was lent, and does not answer."""
    NOT_LENT = "not lent"
    STOPPED = "stopped"
    """The run was ended before the machine was through."""


class StepState(StrEnum):
    """The end of a step."""

    ENDED = "ended"
    FAILED = "failed"
    """It could not be begun, or its results could not be fetched."""
    TIMED_OUT = "timed out"
    LOST = "lost"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """One kernel on one machine.

    Attributes:
        name: in the plan.
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
        repetition: from 1 on.
        name: of the step.
        kind: its command.
        state: its end.
        exit_status: of the command; None if it has none.
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
        """Name of the folder with its files."""
        return step_folder(self.kernel, self.repetition, self.name)


def step_folder(kernel: str, repetition: int, step: str) -> str:
    """Return the name of the folder of a step, on the machine and here."""
    return f"{kernel}.{repetition}.{step}"


@dataclass(frozen=True, slots=True)
class RunnerRecord:
    """One machine.

    Attributes:
        name: of the place; for a machine that was not lent, its number in the plan.
        state: how far it came.
        reason: why not further; empty if done.
        tags: of the place.
        started: when it was lent, ISO 8601.
        kernels: those that ran.
        steps: those that were begun.
        baseline: kernel of the plan that the others are compared with, None for none.
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
            ToolError: it cannot be written.
        """
        write_file(folder / FILE, (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n").encode())


def load(folder: Path) -> RunnerRecord:
    """Read the record of a machine.

    Raises:
        ToolError: there is none, or it is damaged; with the place in the file.
    """
    path = folder / FILE
    try:
        document = json.loads(read_file(path).decode())
    except OSError as failure:
        raise ToolError(f"{path} cannot be read: {failure.strerror}") from None
    except (ValueError, RecursionError):
        raise ToolError(f"{path} is no JSON: run the fleet again") from None
    from jsonschema.exceptions import best_match

    problem = best_match(_validator().iter_errors(document))
    if problem is not None:
        place = "/".join(map(str, problem.absolute_path)) or "its top level"
        raise ToolError(f"{path} is damaged at {place}: {problem.message[:200]}; run the fleet again")
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
        ToolError: there is none.
    """
    found = sorted(path.parent for path in directory.glob(f"*/{FILE}"))
    if not found:
        raise ToolError(f"{directory} holds no {FILE}: give the directory that 'iommufd fleet run --output' wrote")
    return found


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(Path(__file__).with_name("runner-1.json").read_text(encoding="utf-8")))
