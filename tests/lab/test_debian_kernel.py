# SPDX-License-Identifier: MIT
"""The kernel of this Debian, as its package has it: most of VFIO is in modules, and there is no iommufd. Needs root."""

import json
from io import BytesIO
from pathlib import Path

import pytest

from iommufd_py.lab import vm
from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.machine import TEST_DEVICES, Machine
from iommufd_py.lab.progress import Silent
from tests.lab.debian_kernel import image_in, unpacked
from tests.programs import IOMMUFD
from tests.waiting import patience


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest kernel of this machine's archives."""
    root = unpacked(
        "linux-image-amd64",
        tmp_path_factory.mktemp("debian"),
        parts=("linux-image-", "linux-binary-", "linux-modules-"),
    )
    build_emulator(Silent())
    return image_in(root)


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
