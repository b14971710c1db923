# SPDX-License-Identifier: MIT
"""`iommufd lab` without a guest: wrong usage, the machine that the options describe, and the doctor."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from iommufd_py.cli.lab import lab

from iommufd_py.lab.doctor import Diagnosis, examine
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.qemu import QEMU
from tests.programs import IOMMUFD, MAY_READ_ALL

pytestmark = pytest.mark.usefixtures("empty_cache")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lab, arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run"], "Missing argument"),
        (["run", "--memory", "256M", "--", "true"], "256 MiB is too little memory"),
        (["run", "--memory", "lots", "--", "true"], "is not a size"),
        (["run", "--cpus", "0", "--", "true"], "0 is not in the range"),
        (["run", "--rw", "/no/such", "--", "true"], "does not exist"),
        (["run", "--kernel", "some/bzImage", "--debug", "--", "true"], "--debug works with stock, patched, patched-"),
        (
            ["run", "--kernel", "some/bzImage", "--series", "7.2", "--", "true"],
            "--series works with stock, patched, patched-",
        ),
        (["run", "--native", "--coherent", "--", "true"], "--native has one CPU, no QEMU"),
        (["run", "--native", "--memory", "64M", "--", "true"], "64 MiB is too little memory"),
        (["run", "--native", "--incoherent", "--", "true"], "--native has one CPU, no QEMU"),
        (["run", "--native", "--iommu", "amd", "--", "true"], "--native has one CPU, no QEMU"),
        (["run", "--native", "--device", "VGA", "--", "true"], "--native has one CPU, no QEMU"),
        (["run", "--native", "--append", "quiet", "--", "true"], "--native has one CPU, no QEMU"),
        (["run", "--iommu", "smmu", "--", "true"], "'smmu' is not one of 'vtd', 'amd', 'virtio', 'none'"),
        (["run", "--iommu", "amd", "--scalable", "--", "true"], "scalable mode are properties of VT-d"),
        (["run", "--iommu", "amd", "--coherent", "--", "true"], "scalable mode are properties of VT-d"),
        (["run", "--evict", "3", "--", "true"], "only the incoherent machine"),
        (["run", "--incoherent", "--evict", "0", "--", "true"], "0 is not in the range"),
        (["run", "--memory", "1", "--", "true"], "1 byte is too little memory"),
        (["run", "--append", "", "--", "true"], "--append has no word"),
        (["run", "--append", "quiet", "--append", " ", "--", "true"], "--append has no word"),
        (["run", "--append", "a=\x1b[0m", "--", "true"], "'a=\\x1b[0m' is no word of a kernel's command line"),
        (
            ["run", "--append", "quiet a=\u00e9", "--", "true"],
            "is no word of a kernel's command line: use visible ASCII",
        ),
        (["run", "--append", "a=" + "x" * 999, "--", "true"], "have 1001 characters: use up to 1000"),
        (["run", "--append", "a " * 501, "--", "true"], "have 1001 characters: use up to 1000"),
        (["run", "--kernel", "stok", "--", "true"], "there is no kernel 'stok': give stock, patched"),
        (["run", "--kernel", "", "--", "true"], "there is no kernel ''"),
        (["run", "--evict-seed", "3", "--", "true"], "--evict-seed would be ignored: it needs --evict"),
        (["run", "--memory", "9999T", "--", "true"], "is more than this machine has"),
        (["run", "--timeout", "nan", "--", "true"], "is not a number"),
        (["run", "--timeout", "1e999", "--", "true"], "is not in the range"),
        (["run", "--cpus", "99999", "--", "true"], "is not in the range"),
        (["down", "--all", "stock-1"], "--all ends every guest"),
        (["kernel", "build", "--arch", "arm64"], "is not one of 'x86_64', 'um'"),
        (["kernel", "build", "patchd"], "is not one of 'stock', 'patched', 'patched-refined'"),
        (["kernel", "build", "--series", "5.0"], "5.0"),
        (["kernel", "build", "patched", "--source", "/"], "--source builds a tree without patches"),
    ],
)
def test_wrong_usage_has_a_message_and_status_2(arguments: list[str], text: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stdout == ""


def test_the_machine_is_what_the_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Machine] = []
    monkeypatch.setattr("iommufd_py.lab.kernel.image", lambda *arguments: Path("bzImage"))
    monkeypatch.setattr("iommufd_py.cli.lab.run_warm", lambda image, machine, command, **rest: seen.append(machine))
    monkeypatch.setattr("iommufd_py.cli.lab.run_fresh", lambda *arguments, **rest: sys.exit(0))
    invoke("run", "--iommu", "amd", "--device", "VGA", "--device", "nvme,serial=x", "--append", "a=1 b", "--", "true")
    assert seen == [Machine(iommu="amd", devices=("VGA", "nvme,serial=x"), options=("a=1", "b"))]


def test_options_after_the_command_are_its_own() -> None:
    result = invoke("run", "--kernel", "no/such", "some", "--kernel", "other", "--json")
    assert isinstance(result.exception, LabError)
    assert "no kernel no/such" in str(result.exception)


def test_a_shell_without_a_terminal_names_the_alternative() -> None:
    result = invoke("shell")
    assert isinstance(result.exception, LabError)
    assert "iommufd lab run -- COMMAND" in str(result.exception)


def test_the_list_of_no_kernels_is_a_document() -> None:
    assert json.loads(invoke("kernel", "list", "--json").stdout) == {"schema": "iommufd-lab-kernels/1", "kernels": []}


def test_doctor_names_the_command_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    result = invoke("doctor", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    found = {one["subject"]: one for one in document["findings"]}
    assert found["QEMU"]["state"] == "missing"
    assert found["QEMU"]["remedy"] == "sudo apt-get install qemu-system-x86"
    assert found["build tools"]["remedy"].startswith("sudo apt-get install gcc make")
    assert "to fix: sudo apt-get install qemu-system-x86\n" in invoke("doctor").stdout


def test_doctor_lists_everything_although_qemu_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / QEMU).write_text("#!/bin/sh\necho no libfdt.so.1 >&2; exit 127\n")
    (tmp_path / QEMU).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = {one.subject: one for one in examine()}
    assert found["QEMU"] == Diagnosis(
        "QEMU",
        "missing",
        "cannot run QEMU: no libfdt.so.1",
        "sudo apt-get install --reinstall qemu-system-x86",
    )
    assert "cache" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("made_by_root", ["", "iommufd-py", "iommufd-py/runs"])
def test_doctor_names_a_cache_that_this_user_cannot_write(tmp_path: Path, made_by_root: str) -> None:
    """The command "sudo iommufd" can leave directories of root in the cache of the user."""
    user = 4_200_000
    cache = tmp_path / "user"
    (cache / "iommufd-py/runs").mkdir(parents=True)
    for name in ("", "iommufd-py", "iommufd-py/runs"):
        os.chown(cache / name, 0 if name == made_by_root else user, -1)
    if not made_by_root:
        shutil.rmtree(cache / "iommufd-py")
    words = ["setpriv", f"--reuid={user}", "--clear-groups", *MAY_READ_ALL.split(), IOMMUFD, "lab", "doctor", "--json"]
    done = subprocess.run(words, env=os.environ | {"XDG_CACHE_HOME": str(cache)}, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    (found,) = [one for one in json.loads(done.stdout)["findings"] if one["subject"] == "cache"]
    assert (found["state"], found["text"]) == ("missing", f"this user cannot write to {cache / made_by_root}")
    assert "XDG_CACHE_HOME" in found["remedy"]


def test_every_finding_that_is_missing_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    diagnoses: list[Diagnosis] = examine()
    assert all(one.remedy for one in diagnoses if one.state == "missing")
