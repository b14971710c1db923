# SPDX-License-Identifier: MIT
"""Judge mechanical mutants in guests. A mutant that ends its guest counts as found; the next guest runs the others."""

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from iommufd_py.lab import native, vm
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import NativeMachine
from iommufd_py.lab.runs import RunResult

# The limit for one guest, which judges many mutants.
TIMEOUT_SECONDS = 3600
# The whole validation takes 10 to 40 s. A mutant that the end of the guest stops sooner is judged again.
HANG_SECONDS = 400
_PROGRAM = Path(__file__).with_name("in_guest.py")

Tell = Callable[[int, str, str], None]
"""Receives the number of a mutant, the outcome and the scenario that found it; both are empty for a survivor."""
RunGuest = Callable[[Sequence[str], BinaryIO], RunResult]
"""Runs a command in a guest. The stream receives the command's output."""


class Answers(io.RawIOBase):
    """A stream that receives the lines of a guest, and tells each result when its line is complete."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._rest = b""
        self._begun_at = 0.0
        self.begun: int | None = None
        self.done: set[int] = set()

    @property
    def begun_seconds(self) -> float:
        """Time since the guest began the mutant :attr:`begun`."""
        return time.monotonic() - self._begun_at

    def writable(self) -> bool:
        """Return True, as the class io.RawIOBase requires."""
        return True

    def write(self, data: Any) -> int:
        """Take a part of the output."""
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            if line[:1] == b"{":
                self._take(json.loads(line))
        return len(data)

    def _take(self, row: dict[str, Any]) -> None:
        if "found" in row:
            self._tell(row["number"], row["by"], row["found"])
            self.done.add(row["number"])
            self.begun = None
        else:
            self.begun = row["number"]
            self._begun_at = time.monotonic()


def run_mutants(numbers: Sequence[int], only: str, device: str, run_guest: RunGuest, tell: Tell) -> None:
    """Judge mutants in as many guests as necessary.

    Args:
        numbers: the mutants.
        only: pattern of the scenarios.
        device: device of the guest: ``mock`` or a PCI address.
        run_guest: runs a command in a new guest.
        tell: receives each result at once.

    Raises:
        LabError: a guest judges no mutant.
    """
    left = list(numbers)
    while left:
        answers = Answers(tell)
        result = run_guest([sys.executable, str(_PROGRAM), only, device, *map(str, left)], cast("BinaryIO", answers))
        done = answers.done
        if answers.begun is not None and not (result.timed_out and answers.begun_seconds < HANG_SECONDS):
            tell(answers.begun, "end of the guest", _end_of_guest(result, answers.begun_seconds))
            done.add(answers.begun)
        if not done:
            raise LabError(f"the guest judged no mutant; status {result.status}")
        left = [number for number in left if number not in done]


def _end_of_guest(result: RunResult, seconds: float) -> str:
    how = f"hung for {seconds:.0f} s" if result.timed_out else "did not go on"
    report = f", a {result.splats[0].kind}: {result.splats[0].title}" if result.splats else ""
    return f"the guest {how}{report}"


def guests(image: Path, *, natively: bool) -> RunGuest:
    """Return the function that runs a command in a guest with this kernel."""

    def run_guest(command: Sequence[str], stdout: BinaryIO) -> RunResult:
        if not natively:
            return vm.run_in_vm(image, command, stdout=stdout, timeout=TIMEOUT_SECONDS)
        # User-Mode Linux has no probes, so the kernel's own check of the order replaces them.
        machine = NativeMachine(options=("iommufd.test_flush_order=Y",))
        return native.run_natively(image, command, machine, stdout=stdout, timeout=TIMEOUT_SECONDS)

    return run_guest
