# SPDX-License-Identifier: MIT
"""The kernel of this Debian, as its package has it: most of VFIO is in modules, and there is no iommufd. Needs root."""

import json
import subprocess
from io import BytesIO
from pathlib import Path

import pytest

from iommufd_py.lab import vm
from iommufd_py.lab.apt import PrivateApt, system_archives
from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.machine import TEST_DEVICES, Machine
from iommufd_py.lab.progress import Silent
from tests.programs import IOMMUFD
from tests.waiting import patience


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the newest kernel of this machine's archives; nothing is installed."""
    directory = tmp_path_factory.mktemp("debian")
    apt = PrivateApt(directory / "apt", system_archives())
    apt.update()
    wanted = {
        name: version
        for name, version in apt.lacking(["linux-image-amd64"]).items()
        if name.startswith(("linux-image-", "linux-binary-", "linux-modules-"))
    }
    for package in apt.download(wanted, directory, Silent()):
        subprocess.run(["dpkg-deb", "-x", str(package), str(directory / "root")], check=True)
    (found,) = {path.resolve() for path in (directory / "root").rglob("vmlinuz*") if path.is_file()}
    Path("/lib/modules").mkdir(exist_ok=True)  # a machine that never had a kernel of its own
    build_emulator(Silent())
    return found


@pytest.mark.parametrize("coherent", [False, True])
def test_the_flushes_of_a_type1_container(image: Path, coherent: bool) -> None:
    command = f"""modprobe -a vfio-pci vfio_iommu_type1 &&
        {IOMMUFD} dma coherency --container vfio_type1v2 --device {TEST_DEVICES[0]} --bind --json"""
    out, err = BytesIO(), BytesIO()
    machine = Machine(incoherent=True, coherent=coherent)
    result = vm.run_in_vm(image, ["sh", "-c", command], machine, timeout=patience(120), stdout=out, stderr=err)
    assert result.problem is None, result.log_excerpt()
    if coherent:
        assert result.status == 4, err.getvalue().decode()
        assert b"its DMA snoops (the domain enforces it)" in err.getvalue()
        return
    assert result.status == 1, err.getvalue().decode()
    verdicts = {case["name"]: case["verdict"] for case in json.loads(out.getvalue())["cases"]}
    wrong = {name for name, verdict in verdicts.items() if verdict == "wrong"}
    assert {"fill before map", "fresh page", "after unmap", "next owner"} <= wrong
    assert "right" not in verdicts.values()
