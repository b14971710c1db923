# SPDX-License-Identifier: MIT
"""The `iommufd` command in the process of a test."""

import io
import sys

import pytest
from iommufd_py.cli import main


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; return the status and both outputs."""
    outputs = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["iommufd", *arguments])
        patched.setattr(sys, "stdout", outputs[0])
        patched.setattr(sys, "stderr", outputs[1])
        status = main._run()
    out, err = (one.buffer.getvalue().decode() for one in outputs)  # type: ignore[attr-defined]
    return status, out, err
