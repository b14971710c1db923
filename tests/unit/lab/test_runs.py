# SPDX-License-Identifier: MIT
"""The common parts of all runs of guests, and the messages for a run that failed because of its kernel or memory."""

import os
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from iommufd_py.host.kernel_log import scan_kernel_log
from iommufd_py.lab import runs, vm
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import TEST_DEVICES, Machine
from iommufd_py.lab.native import run_natively
from iommufd_py.lab.runs import RunResult, guest_environment, memory_remark
from iommufd_py.lab.vm import run_in_vm

# A kernel of a distribution, with 9p and virtio as modules.
NO_ROOT = "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
KILLED = (
    "[   20.1] Out of memory: Killed process 171 (python) total-vm:1900000kB, anon-rss:700000kB, file-rss:0kB, "
    "shmem-rss:0kB, UID:0 pgtables:2000kB oom_score_adj:0\n"
)


def test_a_guest_finds_compiled_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab compiles the modules even if Python is told not to: else each start in an emulated guest would compile
    them."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    compiled = Path(cache_from_source(str(runs.__file__)))
    compiled.unlink(missing_ok=True)
    runs.compile_package()
    assert compiled.exists()


def test_an_image_that_cannot_mount_its_root_names_the_options(tmp_path: Path) -> None:
    result = RunResult(None, "tcg", 4.0, False, None, scan_kernel_log(NO_ROOT), tmp_path / "kernel.log")
    assert result.problem is not None
    assert "to mount its root: 9P_FS NET_9P_VIRTIO OVERLAY_FS VIRTIO_CONSOLE VIRTIO_PCI; " in result.problem
    assert "'iommufd lab kernel build --source DIR' configures a tree like that" in result.problem


def test_other_panic_does_not_speak_of_the_root(tmp_path: Path) -> None:
    log = "[    2.1] Kernel panic - not syncing: sysrq triggered crash\n"
    result = RunResult(None, "tcg", 4.0, False, None, scan_kernel_log(log), tmp_path / "kernel.log")
    assert "built in" not in str(result.problem)


def test_command_that_the_kernel_killed_for_its_memory() -> None:
    assert memory_remark(KILLED) == "the guest ran out of memory and killed python: give it more with --memory"
    assert memory_remark("[ 1.0] python invoked oom-killer: gfp_mask=0x140dca\n") is None


def test_a_guest_with_devices_names_them_unless_the_user_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IOMMUFD_BDFS", raising=False)
    assert guest_environment("tcg", "machine", "stock")["IOMMUFD_BDFS"] == " ".join(TEST_DEVICES)
    assert "IOMMUFD_BDFS" not in guest_environment("uml", "machine", "stock")
    monkeypatch.setenv("IOMMUFD_BDFS", "0000:00:1f.0")
    assert guest_environment("kvm", "machine", "stock")["IOMMUFD_BDFS"] == "0000:00:1f.0"


@pytest.mark.parametrize(
    ("run", "file"),
    [(run_natively, "guest.sh"), (run_natively, "uml.sh"), (run_in_vm, "guest.sh"), (run_in_vm, "qemu.sh")],
)
def test_a_full_disk_of_the_cache_is_no_full_output(run: Callable[..., RunResult], file: str, tmp_path: Path) -> None:
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(
        LabError, match=f"no space left on the disk of {tmp_path}; free some space, or set XDG_CACHE_HOME"
    ):
        run(Path("/bin/true"), ["true"], directory=tmp_path)


def compose_vm(kernel: Path, command: list[str], *, directory: Path) -> None:
    """Write the scripts of a virtual machine, and start nothing."""
    guest = vm._Guest.prepare(command, Machine(), "", [Path.cwd()], directory)
    words = guest.compose(kernel, ["--script-sh", f"sh {guest.script}"], {})
    assert any(f"path={Path.cwd()}" in word for word in words)


@pytest.mark.parametrize(
    ("run", "scripts"), [(run_natively, ("guest.sh",)), (compose_vm, ("guest.sh", "qemu.sh"))], ids=["native", "vm"]
)
def test_names_that_are_not_utf_8_reach_the_guest(
    run: Callable[..., object], scripts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of files can have any bytes, and so have the words of a command and the variables of the environment."""
    here = tmp_path / os.fsdecode(b"here\xe9")
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("IOMMUFD_FILE", os.fsdecode(b"value\xe9"))
    run(Path("/bin/true"), ["cat", os.fsdecode(b"word\xe9")], directory=tmp_path)
    for script in scripts:
        content = (tmp_path / script).read_bytes()
        for name in (b"here", b"value", b"word") if script == "guest.sh" else (b"here",):
            assert name + b"\xe9" in content, script
