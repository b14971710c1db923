# SPDX-License-Identifier: MIT
"""The command line for a kernel with modules, and the programs that it needs. test_debian_kernel.py boots one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from iommufd_py.lab import kernel
from iommufd_py.lab.doctor import examine
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.progress import Silent
from iommufd_py.lab.qemu import QEMU, compose


@pytest.fixture(scope="module", autouse=True)
def modules_directory() -> None:
    """Follow the remedy for a machine that never had a kernel of its own."""
    Path("/lib/modules").mkdir(exist_ok=True)


@pytest.fixture(scope="module")
def image() -> Path:
    return kernel.image("stock", Silent())


@pytest.fixture
def installed(image: Path, tmp_path: Path) -> Path:
    """An image as a distribution installs it, with a module for its root file system."""
    release = re.search(rb"([!-~]+) \(iommufd@lab\)", image.read_bytes())
    assert release is not None
    modules = tmp_path / "lib/modules" / release[1].decode() / "kernel"
    modules.mkdir(parents=True)
    alias = '__attribute__((used, section(".modinfo"))) static const char alias[] = "alias=fs-9p";'
    target = str(modules / "filesystem.ko")
    subprocess.run(["gcc", "-xc", "-c", "-o", target, "-"], input=alias, text=True, check=True)
    (tmp_path / "boot").mkdir()
    return Path(shutil.copy(image, tmp_path / "boot/vmlinuz"))


def test_an_initramfs_has_the_modules_of_the_root(installed: Path, tmp_path: Path) -> None:
    initramfs = tmp_path / "initramfs"
    command = compose(installed, Machine(), [], [], initramfs=initramfs)
    assert command[command.index("-initrd") + 1] == str(initramfs)
    assert b"modules/filesystem.ko" in initramfs.read_bytes()
    assert any("virtme_link_mods=" in word and "lib/modules" in word for word in command)


def test_a_kernel_without_modules_has_no_initramfs(image: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copy(image, tmp_path / "bzImage"))
    assert "-initrd" not in compose(copied, Machine(), [], [], initramfs=tmp_path / "initramfs")
    assert not (tmp_path / "initramfs").exists()


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = shutil.which(QEMU)
    assert qemu is not None
    (tmp_path / QEMU).symlink_to(qemu)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"; for a kernel with modules run: sudo apt-get install busybox-static file$"):
        compose(Path("/dev/null"), Machine(), [], [], initramfs=tmp_path / "initramfs")
    (found,) = [one for one in examine() if one.subject == "initramfs"]
    assert found.remedy == "sudo apt-get install busybox-static file"
