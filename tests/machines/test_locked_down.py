# SPDX-License-Identifier: MIT
"""A kernel in lockdown: maps work, and no command takes the refusal of tracing for a fault of the kernel."""

import os
import subprocess
from collections.abc import Callable

import pytest

from iommufd_py import Iommufd
from iommufd_py.host.tracefs import lockdown_level
from iommufd_py.lab.machine import NVME_DEVICE

Cli = Callable[..., subprocess.CompletedProcess[str]]

DEVICE = ("--device", NVME_DEVICE, "--bind")
REASON = "this kernel is in lockdown (confidentiality), as under Secure Boot, and permits no tracing"


def test_kernel_is_in_lockdown() -> None:
    assert lockdown_level() == "confidentiality"


@pytest.mark.parametrize(
    "command",
    [("trace", "--seconds", "1"), ("bench", "trace", *DEVICE), ("validate", "--device", NVME_DEVICE, "--bind")],
    ids=lambda command: " ".join(command[:2]),
)
def test_tracing_cannot_be_observed(command: tuple[str, ...], cli: Cli) -> None:
    done = cli(*command)
    assert done.returncode == 4, done.stderr
    assert REASON in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    "command",
    [
        ("info",),
        ("device", "show", NVME_DEVICE),
        ("map", *DEVICE),
        ("dma", "check", *DEVICE),
        ("bench", "run", *DEVICE, "--size", "4K", "--seconds", "0.05"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_all_else_works(command: tuple[str, ...], cli: Cli) -> None:
    done = cli(*command)
    assert done.returncode == 0, done.stderr


def test_explain_shows_the_state_without_tracing(cli: Cli) -> None:
    with Iommufd() as iommufd, iommufd.alloc_ioas():
        done = cli("explain", "--pid", str(os.getpid()), "--seconds", "1")
        state = cli("explain", "--pid", str(os.getpid()), "--seconds", "0")
    assert done.returncode == 4, done.stderr
    assert REASON in " ".join((done.stdout + done.stderr).split())
    assert state.returncode == 0, state.stderr
