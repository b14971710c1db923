# SPDX-License-Identifier: MIT
"""Every example in --help works unchanged on the lab's machine. They run one after the other."""

import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from iommufd_py import pci
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from tests.conftest import IN_LAB
from tests.programs import SEARCH_PATH
from tests.waiting import patience

pytestmark = pytest.mark.skipif(not IN_LAB, reason="the examples name the lab's devices; run it in the lab")

Cli = Callable[..., subprocess.CompletedProcess[str]]

REPORT = "print(device.alloc_hwpt(ioas))\n"


def commands() -> Iterator[click.Command]:
    yield importlib.import_module("iommufd_py.cli.main").iommufd
    for name in ("info", "device", "map", "shell", "trace"):
        command = getattr(importlib.import_module(f"iommufd_py.cli.{name}"), name)
        yield from command.commands.values() if isinstance(command, click.Group) else [command]


def examples(command: click.Command) -> list[str]:
    _, _, text = (command.help or "").partition("Examples:\n")
    return [line.strip() for line in text.splitlines() if "iommufd" in line]


@pytest.mark.usefixtures("all_given_back")
def test_examples_of_every_command(tmp_path: Path) -> None:
    (tmp_path / "report.py").write_text(REPORT)
    before = pci.list_devices()
    found = [line for command in commands() for line in examples(command)]
    assert all(examples(command) for command in commands())
    for line in found:
        done = subprocess.run(
            line,
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": SEARCH_PATH},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience(120),
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert pci.list_devices() == before


def complete(cli: Cli, *words: str, shell: str = "bash") -> list[str]:
    done = cli(
        env={
            **os.environ,
            "_IOMMUFD_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join(("iommufd", *words)),
            "COMP_CWORD": str(len(words)),
        }
    )
    return done.stdout.split()


@pytest.mark.usefixtures("all_given_back")
def test_completion_of_addresses(cli: Cli) -> None:
    assert complete(cli, "device", "show", "0000:00:1") == [
        f"plain,{one.bdf}" for one in pci.list_devices() if one.bdf.startswith("0000:00:1")
    ]
    assert f"plain,{NVME_DEVICE}" in complete(cli, "device", "bind", "00:12")
    with pci.vfio_bound(TEST_DEVICES[0]):
        assert complete(cli, "device", "restore", "0000") == [f"plain,{TEST_DEVICES[0]}"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    done = cli(env={**os.environ, "_IOMMUFD_COMPLETE": f"{shell}_source"})
    assert done.returncode == 0
    assert "_IOMMUFD_COMPLETE" in done.stdout
