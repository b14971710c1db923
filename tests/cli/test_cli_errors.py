# SPDX-License-Identifier: MIT
"""Every error is one sentence on stderr and a status; never a traceback, never half a result on stdout."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py.objects.iommufd import DEV_IOMMU

Cli = Callable[..., subprocess.CompletedProcess[str]]


def assert_one_sentence(done: subprocess.CompletedProcess[str], status: int, *texts: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    for text in texts:
        assert text in done.stderr


@pytest.mark.skipif(DEV_IOMMU.exists(), reason="there is a /dev/iommu here")
def test_no_dev_iommu(cli: Cli) -> None:
    assert_one_sentence(cli("bench", "run", "--device", "mock"), 1, "no /dev/iommu", "modprobe iommufd")


@pytest.mark.skipif(DEV_IOMMU.exists(), reason="there is a /dev/iommu here")
def test_error_as_json(cli: Cli, tmp_path: Path) -> None:
    done = cli("bench", "run", "--device", "mock", "--json", "--output", str(tmp_path / "run.json"))
    assert done.returncode == 1
    assert "no /dev/iommu" in json.loads(done.stderr)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_unknown_device(cli: Cli) -> None:
    assert_one_sentence(cli("device", "bind", "ffff:1f:1f.7"), 1, "no PCI device ffff:1f:1f.7", "iommufd device list")
    assert_one_sentence(cli("device", "bind", "nonsense"), 1, "'nonsense' is not a PCI address", "0000:3b:00.0")


def test_restore_of_what_was_never_bound(cli: Cli) -> None:
    assert_one_sentence(cli("device", "restore", "ffff:1f:1f.7"), 1, "was not bound by 'iommufd device bind'")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "run"),
        ("bench", "run", "--device", "mock", "--size", "0"),
        ("bench", "run", "--device", "mock", "--size", "4K,much"),
        ("bench", "run", "--device", "mock", "--values", "0"),
        ("bench", "run", "--device", "mock", "--size", "4097"),
        ("bench", "run", "--device", "mock", "--iova", "0x1ffffffffffffffff"),
        ("bench", "run", "--device", "mock", "--backing", "paper"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_is_status_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Error:" in done.stderr


def test_show_of_something_else(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert_one_sentence(cli("bench", "show", str(other)), 1, "has the schema None")
    assert_one_sentence(cli("bench", "show", str(tmp_path / "absent.json")), 1, "cannot be read")


def test_reader_that_goes_away(cli: Cli) -> None:
    done = subprocess.run(
        "iommufd device list | true", shell=True, capture_output=True, text=True, check=False, executable="/bin/bash"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("bench", "--help"), ("bench", "run", "-h"), ("lab", "--help"), ("--version",)]
)
def test_help(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "iommufd" in done.stdout
