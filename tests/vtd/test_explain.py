# SPDX-License-Identifier: MIT
"""`iommufd explain` on programs that map memory for a device behind VT-d: one in C, and one with a type1 container."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py.host import iommus
from iommufd_py.vfio.sysfs import find_cdev
from tests import foreign

Cli = Callable[..., subprocess.CompletedProcess[str]]
MIB = 1 << 20

# Maps and unmaps in a type1 container, until it is killed.
TYPE1 = """
import sys, time
from iommufd_py import ContainerMode, DmaBuffer, open_container

with open_container(ContainerMode.VFIO_TYPE1V2, sys.argv[1]) as container, DmaBuffer(64 << 10) as buffer:
    print("waiting", flush=True)
    while True:
        container.map(buffer, 0x10000000).close()
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.build_dma_user(tmp_path_factory.mktemp("foreign"))


def test_state_of_a_device_and_its_page_table(cli: Cli, program: Path, bdf: str) -> None:
    with foreign.running(program, str(find_cdev(bdf)), "touched:4", "wait") as process:
        done = cli("explain", "--pid", str(process.pid), "--seconds", "0", "--json")
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)["process"]
    assert [one["kind"] for one in state["descriptors"]] == ["iommufd", "VFIO cdev"]
    (device,) = state["devices"]
    unit = next(one for one in iommus() if bdf in one.devices)
    assert (device["bdf"], device["iommu"]) == (bdf, unit.name)
    assert device["flushes"] == unit.flushes().as_dict()
    assert sum(int(size) * count for size, count in device["leaves"].items()) == 4 * MIB
    assert state["pinned_bytes"] == 4 * MIB


def test_parts_of_a_map_for_a_device(cli: Cli, program: Path, bdf: str) -> None:
    # Half a second of rest in each round: on an emulated CPU, each recorded event takes its time.
    steps = ("map:2", "unmap", "file:2", "unmap", *["sleep"] * 10, "again:1000000")
    with foreign.running(program, str(find_cdev(bdf)), *steps) as process:
        done = cli("explain", "--pid", str(process.pid), "--seconds", "10", "--json")
    assert done.returncode == 0, done.stderr
    watched = json.loads(done.stdout)["watched"]
    whole = [
        one
        for one in watched["ioctls"]
        if one["returned"] and one["recorded_seconds"] == pytest.approx(one["seconds"], rel=0.05)
    ]
    for ioctl, parts in (
        ("IOMMU_IOAS_MAP", {"fault-in": 512, "pinning": 1, "page tables": 1}),
        ("IOMMU_IOAS_MAP_FILE", {"fault-in": 512, "pinning": 1, "page tables": 1}),
        ("IOMMU_IOAS_UNMAP", {"page tables": 1, "IOTLB invalidation": 1, "unpinning": 1}),
    ):
        found = [one for one in whole if one["ioctl"] == ioctl]
        assert found, ioctl
        for one in found:
            assert (one["iova"], one["length"], one["result"]) == (1 << 28, 2 * MIB, 0)
            for part, calls in parts.items():
                assert one["parts"][part]["calls"] >= calls, part
    assert any("/memfd:guest" in path for path in watched["mapped_files"].values()) or not watched["mapped_files"]


def test_a_type1_container(cli: Cli, bdf: str) -> None:
    with subprocess.Popen([sys.executable, "-c", TYPE1, bdf], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "waiting\n"
            done = cli("explain", "--pid", str(process.pid), "--seconds", "10", "--json")
        finally:
            process.kill()
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    kinds = {one["kind"] for one in document["process"]["descriptors"]}
    assert {"VFIO container", "VFIO group"} <= kinds
    assert bdf in [one["bdf"] for one in document["process"]["devices"]]
    maps = [one for one in document["watched"]["ioctls"] if one["ioctl"] == "VFIO_IOMMU_MAP_DMA" and one["returned"]]
    assert maps
    assert {(one["iova"], one["length"], one["result"]) for one in maps} == {(0x10000000, 64 << 10, 0)}
    assert any(one["parts"].get("pinning", {"calls": 0})["calls"] for one in maps)
