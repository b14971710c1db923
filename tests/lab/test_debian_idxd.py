# SPDX-License-Identifier: MIT
"""Debian's driver idxd, unmodified, copies with the emulated Data Streaming Accelerator. Needs root.

The kernel's dmatest checks the copies. Debian does not build this module, so the test does, from Debian's source.
"""

import re
import subprocess
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest

from iommufd_py.lab import vm
from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.progress import Silent
from iommufd_py.lab.source import obtain
from tests.lab.debian_kernel import image_in, unpacked
from tests.waiting import patience

COPIES, THREADS = 50, 2

CONFIGURE = """
modprobe idxd
cd /sys/bus/dsa/devices/dsa0
echo 0 >engine0.0/group_id
cd wq0.0
echo 0 >group_id
echo dedicated >mode
echo 16 >size
echo 10 >priority
echo kernel >type
echo dmatest >name
echo dmaengine >driver_name
cd /sys/bus/dsa/drivers
echo dsa0 >idxd/bind
echo wq0.0 >dmaengine/bind
"""

# Reading the parameter "wait" waits for the end.
TEST = """
cd /sys/module/dmatest/parameters
echo dma0chan0 >channel
echo 1 >run
cat wait
"""

# What the driver says of a device without PASID, page requests and counters.
EXPECTED = re.compile(
    r"idxd 0000:00:14\.0: (Unable to turn on user SVA feature\.|Failed to initialize perfmon\. No PMU support: -19"
    r"|Intel\(R\) Accelerator Device \(v100\))"
)


@dataclass
class DebianKernel:
    image: Path
    dmatest: Path


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> DebianKernel:
    directory = tmp_path_factory.mktemp("debian")
    root = unpacked("linux-headers-6.12-amd64", directory, parts=("linux-image-", "linux-headers-", "linux-kbuild-"))
    (headers,) = root.glob("usr/src/linux-headers-*-amd64")
    (common,) = root.glob("usr/src/linux-headers-*-common")
    module = directory / "module"
    module.mkdir()
    (module / "dmatest.c").write_bytes((obtain("6.12", Silent()).path / "drivers/dma/dmatest.c").read_bytes())
    (module / "Makefile").write_text("obj-m := dmatest.o\n")
    # Type information for BPF would need another program.
    options = [f"O={headers}", f"M={module}", "CONFIG_DEBUG_INFO_BTF_MODULES="]
    subprocess.run(["make", "-s", "-C", str(common), *options, "modules"], check=True)
    build_emulator(Silent())
    return DebianKernel(image_in(root), module / "dmatest.ko")


@pytest.mark.parametrize(
    "machine",
    [Machine(iommu="vtd"), Machine(iommu="vtd", scalable=True), Machine(options=("intel_iommu=off",))],
    ids=["legacy mode", "scalable mode", "IOMMU off"],
)
def test_the_driver_copies_without_failure(debian: DebianKernel, machine: Machine) -> None:
    parameters = f"iterations={COPIES} threads_per_chan={THREADS} test_buf_size=65536 timeout=20000"
    script = f"set -e{CONFIGURE}insmod {debian.dmatest} {parameters}{TEST}"
    machine = replace(machine, incoherent=True, devices=("dsa,addr=0x14",))
    err = BytesIO()
    result = vm.run_in_vm(debian.image, ["sh", "-c", script], machine, timeout=patience(300), stderr=err)
    assert (result.problem, result.status) == (None, 0), f"{err.getvalue().decode()}\n{result.log_excerpt()}"
    log = result.kernel_log.read_text(errors="replace")
    summaries = re.findall(r"dma0chan0-copy\d: summary (\d+) tests, (\d+) failures", log)
    assert summaries == [(str(COPIES), "0")] * THREADS
    assert not re.findall(r"DMAR:.*fault.*", log, re.IGNORECASE)
    said = re.findall(r"idxd 0000:00:14\.0: .*", log)
    assert [line for line in said if not EXPECTED.fullmatch(line)] == []
    assert any("Accelerator Device" in line for line in said)
