# SPDX-License-Identifier: MIT
"""The plan of a run, read from TOML: its machines, kernels, steps and deadlines."""

import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import cannot_read, read_file
from iommufd_py.base.shown import shown, shown_number
from iommufd_py.fleet.tags import tag_value

INSTALLED = "installed"
"""Name of the kernel that runs on a machine before the run."""

# The time that tomllib takes for a key with dots grows with its square.
_MOST_BYTES = 64 << 10
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
# pip reads the version and the platform from the name: NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl.
_WHEEL = re.compile(r"[^-]+-[^-]+(-\d[^-]*)?(-[^-]+){3}\.whl")
# The pattern TAG_KEY of labgrid.
_KEY = re.compile(r"[a-z][a-z0-9_]+")
# Python refuses a number with thousands of digits, and no wait may be longer than a year.
_DURATION = re.compile(r"([0-9]{1,9})(s|min|h)")
_MOST_SECONDS = 366 * 24 * 3600
_MOST_COUNT = 10_000
# With the kernel and the repetition, a name becomes the name of a folder, which has up to 255 bytes.
_MOST_NAME_CHARACTERS = 100
# The run itself writes these into the directory of a step. A file "status" there would end the step.
_OWN_FILES = frozenset(
    {"pid", "started", "status", "status.new", "result.json", "result.xml", "result.ktap", "log.txt"}
)
# The kernel takes words of up to 128 KiB; this is far below.
_MOST_WORD_CHARACTERS = 4096
_UNITS = {"s": 1, "min": 60, "h": 3600}
_STEP_SECONDS = 30 * 60
_DEADLINE_SECONDS = 4 * 3600
# A server needs minutes to boot.
_LOST_SECONDS = 5 * 60


class StepKind(StrEnum):
    """The commands that a step can run."""

    VALIDATE = "validate"
    DMA_CHECK = "dma-check"
    DMA_COHERENCY = "dma-coherency"
    PYTEST = "pytest"
    BENCH = "bench"

    @property
    def result(self) -> str:
        """Name of the command's result file in the folder of the step."""
        return "xml" if self is StepKind.PYTEST else "json"


# Options that decide the form and the place of a result, which the run itself reads.
_OWN: Mapping[StepKind, frozenset[str]] = {
    StepKind.VALIDATE: frozenset({"--json", "--ktap", "--junit", "--list", "--explain"}),
    StepKind.DMA_CHECK: frozenset({"--json"}),
    StepKind.DMA_COHERENCY: frozenset({"--json"}),
    StepKind.PYTEST: frozenset({"--junitxml", "--junit-xml", "--ktap"}),
    StepKind.BENCH: frozenset({"--output", "--json"}),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One command on each machine.

    Attributes:
        name: its name in files and reports.
        kind: the command.
        options: more arguments of the command; ``{bdf}`` stands for the PCI address in the machine's tag ``bdf``.
        deadline_s: seconds after which the command is stopped.
        files: files and folders beside the plan, which are copied into the command's directory.
    """

    name: str
    kind: StepKind
    options: tuple[str, ...]
    deadline_s: float
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class MachineRequest:
    """A number of machines with the same tags.

    Attributes:
        filter: tags that a machine must have.
        count: number of machines.
    """

    filter: Mapping[str, str]
    count: int

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.filter.items())


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The whole plan of a run.

    Attributes:
        name: name of the run.
        wanted: the machines.
        kernels: names of kernels, in the order they run: ``installed``, or states of the machine's labgrid Strategy.
        baseline: the kernel with which the others are compared, or None. The verdict ignores the rules of the baseline.
        steps: the commands, in the order they run.
        repetitions: how often all steps run on each kernel.
        deadline_s: seconds for the whole run, from its first reservation.
        lost_after_s: seconds without an answer after which a machine counts as lost.
        package: the wheel to install on each machine; None if the machines have the tool.
        python: the Python on the machines that makes the virtual environment of the tool.
        environment: labgrid's configuration with the Strategy of each machine, or None.
    """

    name: str
    wanted: tuple[MachineRequest, ...]
    kernels: tuple[str, ...]
    baseline: str | None
    steps: tuple[Step, ...]
    repetitions: int
    deadline_s: float
    lost_after_s: float
    package: Path | None
    python: str
    environment: Path | None


def load_plan(path: Path) -> FleetPlan:
    """Read a plan. Paths in the plan are relative to its folder.

    Raises:
        ToolError: the file cannot be read, is not TOML, or is not a valid plan. The text names the file and the key.
    """
    try:
        document = tomllib.loads(read_file(path, _MOST_BYTES).decode("utf-8-sig"))
    except OSError as failure:
        raise cannot_read(path, failure) from None
    except RecursionError:
        raise ToolError(f"{path} is nested too deeply to be a plan") from None
    except ValueError as failure:
        # The cause can also be bytes that are not UTF-8, or a number with thousands of digits. Python's advice about
        # the number is for programmers.
        raise ToolError(f"{path} is not TOML: {str(failure).partition('; use sys.')[0]}") from None
    try:
        return parse_plan(document, path.absolute().parent)
    except _PlanError as failure:
        raise ToolError(f"{path}: {failure}; docs/how-to/run-a-fleet.md shows a plan") from None


class _PlanError(Exception):
    pass


def parse_plan(document: Mapping[str, Any], folder: Path) -> FleetPlan:
    """Return the plan of a TOML document. Its paths are relative to *folder*."""
    top = _Table(document, "the plan")
    plan = FleetPlan(
        name=top.name("name"),
        wanted=tuple(_wanted(one) for one in top.tables("runners")),
        kernels=_kernels(top),
        baseline=top.text("baseline", "") or None,
        steps=tuple(_step(one, folder) for one in top.tables("steps")),
        repetitions=top.count("repetitions", 1),
        deadline_s=top.seconds("deadline", _DEADLINE_SECONDS),
        lost_after_s=top.seconds("lost_after", _LOST_SECONDS),
        package=top.path("package", folder),
        python=top.text("python", "python3"),
        environment=top.path("environment", folder),
    )
    top.nothing_else()
    _agree(plan)
    return plan


def _kernels(top: "_Table") -> tuple[str, ...]:
    found = tuple(_checked_name(one, "kernels") for one in top.texts("kernels", (INSTALLED,)))
    if not found:
        raise _PlanError("kernels is empty, so nothing would run; leave it out for the installed kernel")
    return found


def _agree(plan: FleetPlan) -> None:
    names = [step.name for step in plan.steps]
    for values, where in ((names, "the name of a step"), (plan.kernels, "kernels")):
        twice = next((one for one in values if list(values).count(one) > 1), None)
        if twice is not None:
            raise _PlanError(f"{where}: {twice!r} appears twice")
    if plan.baseline is not None and plan.baseline not in plan.kernels:
        raise _PlanError(f"baseline: {plan.baseline!r} is not one of the kernels: {', '.join(plan.kernels)}")
    if plan.baseline is not None and len(plan.kernels) == 1:
        raise _PlanError("baseline: the plan has no other kernel to compare with it")
    if plan.package is not None and not _WHEEL.fullmatch(plan.package.name):
        raise _PlanError(
            f"package: {plan.package.name!r} is not the name of a wheel, and pip refuses it; keep the name it had"
        )
    others = [one for one in plan.kernels if one != INSTALLED]
    if others and plan.environment is None:
        raise _PlanError(f"kernels: {others[0]!r} needs 'environment', the labgrid file with a Strategy that boots it")


def _wanted(table: "_Table") -> MachineRequest:
    found = MachineRequest(
        {key: tag_value(value) for key, value in table.tags("filter").items()}, table.count("count", 1)
    )
    table.nothing_else()
    return found


def _step(table: "_Table", folder: Path) -> Step:
    kind = table.text("run")
    if kind not in list(StepKind):
        raise _PlanError(f"{table.where}: 'run' is {shown(kind)}, which is not one of {', '.join(StepKind)}")
    files = tuple(_present(folder / one, table.where, or_folder=True) for one in table.texts("files", ()))
    names = [one.name for one in files]
    own_file = next((one for one in names if one in _OWN_FILES or one in ("", "..")), None)
    if own_file is not None:
        raise _PlanError(
            f"{table.where}: one of the 'files' has the name {own_file!r}, which the run itself uses; give another name"
        )
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise _PlanError(f"{table.where}: two of the 'files' have the name {twice!r}, so one would replace the other")
    step = Step(
        name=table.name("name", kind),
        kind=StepKind(kind),
        options=table.texts("options", ()),
        deadline_s=table.seconds("deadline", _STEP_SECONDS),
        files=files,
    )
    table.nothing_else()
    own = next((one for one in step.options if one.partition("=")[0] in _OWN[step.kind]), None)
    if own is not None:
        raise _PlanError(f"{table.where}: 'options' holds {own!r}, which the run itself decides; leave it out")
    return step


def _present(path: Path, where: str, *, or_folder: bool = False) -> Path:
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        raise _PlanError(f"{where}: {path} does not exist") from None
    except OSError as failure:
        raise _PlanError(f"{where}: {cannot_read(path, failure)}") from None
    if not stat.S_ISREG(kind) and not (or_folder and stat.S_ISDIR(kind)):
        raise _PlanError(f"{where}: {path} is not a file")
    return path


def _printable(text: str, where: str, key: str) -> str:
    """Refuse text that no command line takes, or that a terminal obeys."""
    if not text.isprintable():
        raise _PlanError(f"{where}: {key!r} holds {shown(text)}, which has a control character")
    return text


def _checked_name(text: str, where: str) -> str:
    if not _NAME.fullmatch(text):
        raise _PlanError(f"{where}: {shown(text)} is not a name: use lower case letters, digits, '_', '.' and '-' only")
    if len(text) > _MOST_NAME_CHARACTERS:
        raise _PlanError(f"{where}: the name has {len(text)} characters, more than {_MOST_NAME_CHARACTERS}")
    return text


class _Table:
    """A table of the document. Each key is taken once, so that unknown keys are left over."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, Mapping):
            raise _PlanError(f"{where} is not a table")
        self._values = dict(values)
        self._given = frozenset(values)
        self.where = where

    def _take(self, key: str, kind: type, default: Any) -> Any:
        if key not in self._values:
            if default is None:
                raise _PlanError(f"{self.where} has no {key!r}")
            return default
        value = self._values.pop(key)
        # In Python, a bool is also an int.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _PlanError(f"{self.where}: {key!r} is {shown(value)}, which is not {_WORDS[kind]}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        text = _printable(str(self._take(key, str, default)), self.where, key)
        if not text and key in self._given:
            raise _PlanError(f"{self.where}: {key!r} is empty")
        return text

    def name(self, key: str, default: str | None = None) -> str:
        return _checked_name(self.text(key, default), f"{self.where}: {key!r}")

    def count(self, key: str, default: int) -> int:
        value = int(self._take(key, int, default))
        if not 1 <= value <= _MOST_COUNT:
            raise _PlanError(f"{self.where}: {key!r} is {shown_number(value)}; it must be from 1 to {_MOST_COUNT}")
        return value

    def seconds(self, key: str, default: float) -> float:
        if key not in self._values:
            return default
        text = self.text(key)
        match = _DURATION.fullmatch(text)
        seconds = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 0 < seconds <= _MOST_SECONDS:
            raise _PlanError(
                f"{self.where}: {key!r} is {shown(text)}, which is not a time of at most a year: write 90s, 20min or 2h"
            )
        return float(seconds)

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        found = self._take(key, list, list(default))
        for one in found:
            if not isinstance(one, str):
                raise _PlanError(f"{self.where}: {key!r} holds {shown(one)}, which is not a text")
            if len(one) > _MOST_WORD_CHARACTERS:
                raise _PlanError(
                    f"{self.where}: {key!r} holds a word of {len(one)} characters, more than {_MOST_WORD_CHARACTERS}"
                )
            _printable(one, self.where, key)
        return tuple(found)

    def path(self, key: str, folder: Path) -> Path | None:
        text = self.text(key, "")
        return _present(folder / text, self.where) if text else None

    def tags(self, key: str) -> dict[str, str]:
        found = self._take(key, Mapping, None)
        for name, value in found.items():
            if not _KEY.fullmatch(name) or not _is_tag(value):
                raise _PlanError(
                    f"{self.where}: {key!r} has {_printable(name, self.where, key)} = {shown(value)}, "
                    "which is not a tag of labgrid"
                )
            _printable(str(value), self.where, key)
        if not found:
            raise _PlanError(f"{self.where}: {key!r} is empty and would match every machine; name a tag")
        return {name: str(value) for name, value in found.items()}

    def tables(self, key: str) -> "list[_Table]":
        found = self._take(key, list, None)
        if not found:
            raise _PlanError(f"{self.where}: {key!r} is empty")
        return [_Table(one, f"{key}[{number}]") for number, one in enumerate(found)]

    def nothing_else(self) -> None:
        if self._values:
            raise _PlanError(f"{self.where}: the key {shown(next(iter(self._values)))} is unknown")


def _is_tag(value: object) -> bool:
    # In Python, a bool is also an int. No number of 20 digits is a tag, and Python writes none of thousands of digits.
    number = type(value) is int and 0 <= value < 1 << 64
    return number or (isinstance(value, str) and bool(tag_value(value)))


_WORDS: dict[type, str] = {str: "text", int: "a whole number", list: "a list", Mapping: "a table"}
