# SPDX-License-Identifier: MIT
"""Virtual functions of an NVMe controller, and the tokens that their users need while vfio-pci has the physical
function.

The first three are the cases of tools/testing/selftests/vfio/vfio_pci_sriov_uapi_test.c, each in five modes of
container and with three tokens.
"""

import contextlib
import errno
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from iommufd_py import (
    Container,
    ContainerMode,
    DeviceError,
    DmaBuffer,
    Iommufd,
    IommufdError,
    VfioDevice,
    open_container,
    pci,
)
from iommufd_py.dma import engine_for
from tests.programs import IOMMUFD

PF = "0000:00:17.0"
FIRST, SECOND = "52ac9bff-3a88-4fbd-901a-0d767c3b6c97", "88594674-90a0-47a9-aea8-9d9b352ac08a"
SYSFS = Path("/sys/bus/pci/devices") / PF
# The parameter is off by default, and then vfio-pci answers ENOENT: vfio_pci_sriov_configure() in
# drivers/vfio/pci/vfio_pci.c.
ENABLE_SRIOV = Path("/sys/module/vfio_pci/parameters/enable_sriov")


@pytest.fixture(scope="module")
def vf() -> Iterator[str]:
    """The address of a virtual function; both functions are on vfio-pci."""
    with pci.vfio_bound(PF):
        before = ENABLE_SRIOV.read_text()
        ENABLE_SRIOV.write_text("Y")
        (SYSFS / "sriov_numvfs").write_text("1")
        try:
            address = (SYSFS / "virtfn0").resolve().name
            with pci.vfio_bound(address):
                yield address
        finally:
            (SYSFS / "sriov_numvfs").write_text("0")
            ENABLE_SRIOV.write_text(before)


@pytest.fixture(params=ContainerMode, ids=str)
def mode(request: pytest.FixtureRequest) -> ContainerMode:
    return request.param


@contextlib.contextmanager
def pf_open(mode: ContainerMode) -> Iterator[Container]:
    with open_container(mode, PF, vf_token=FIRST) as container:
        yield container


def opens(container: Container, vf: str, token: str | None, right: bool) -> None:
    """Open the virtual function in the container of the physical one; that must succeed only with the right token."""
    if right:
        container.open_device(vf, vf_token=token).close()
        return
    with pytest.raises(IommufdError, match="VF token is missing or wrong") as caught:
        container.open_device(vf, vf_token=token)
    assert caught.value.errno == errno.EACCES


TOKENS = pytest.mark.parametrize("token", [FIRST, SECOND, None], ids=["same", "different", "none"])


@TOKENS
def test_init_token_match(vf: str, mode: ContainerMode, token: str | None) -> None:
    with pf_open(mode) as container:
        opens(container, vf, token, token == FIRST)


@TOKENS
def test_pf_early_close(vf: str, mode: ContainerMode, token: str | None) -> None:
    """The token remains valid after the physical function is closed."""
    with pf_open(mode) as container:
        container.device.close()
        opens(container, vf, token, token == FIRST)


@TOKENS
def test_override_token(vf: str, mode: ContainerMode, token: str | None) -> None:
    with pf_open(mode) as container:
        container.device.set_vf_token(SECOND)
        opens(container, vf, token, token == SECOND)


def test_a_token_that_the_owner_does_not_set_is_random(vf: str) -> None:
    """vfio-pci makes a random token when it takes the physical function. No program can read this token."""
    with Iommufd() as iommufd, VfioDevice(iommufd, PF) as physical:
        physical.set_vf_token(UUID(SECOND))
        with Iommufd() as others, pytest.raises(IommufdError, match="VF token"):
            VfioDevice(others, vf, vf_token=UUID(int=0))
        with Iommufd() as others:
            VfioDevice(others, vf, vf_token=SECOND)


def test_a_virtual_function_has_no_token_of_its_own(vf: str) -> None:
    with Iommufd() as iommufd, VfioDevice(iommufd, PF, vf_token=FIRST):
        virtual = VfioDevice(iommufd, vf, vf_token=FIRST)
        with pytest.raises(DeviceError, match="is not a physical function"):
            virtual.set_vf_token(SECOND)


def test_both_functions_map_at_the_same_address(vf: str, mode: ContainerMode) -> None:
    """Each function has an IOMMU group of its own. In a container of its own it has its own addresses."""
    with (
        pf_open(mode) as first,
        open_container(mode, vf, vf_token=FIRST) as second,
        DmaBuffer(4096) as one,
        DmaBuffer(4096) as other,
        first.map(one, 0x10_0000),
        second.map(other, 0x10_0000),
    ):
        assert pci.pci_device(vf).iommu_group != pci.pci_device(PF).iommu_group


def test_the_virtual_function_is_shown_and_known(vf: str) -> None:
    found = pci.pci_device(vf)
    assert found.driver == "vfio-pci"
    assert engine_for(vf) is engine_for(PF)
    assert (Path("/sys/bus/pci/devices") / vf / "physfn").resolve().name == PF


def test_a_physical_function_with_users_is_not_given_back(vf: str) -> None:
    """Without its driver the physical function would also lose its virtual functions."""
    with pytest.raises(DeviceError, match=f"{PF} is in use: .*virtual function"):
        pci.unbind(PF)


def run_with_token(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command without the token, which the error asks for, and then with it."""
    with open_container(ContainerMode.IOMMUFD, PF, vf_token=FIRST):
        without = subprocess.run([IOMMUFD, *words], capture_output=True, text=True, check=False)
        assert without.returncode == 1, without.stderr
        assert "at the command line with --vf-token" in without.stderr
        return subprocess.run([IOMMUFD, *words, "--vf-token", FIRST], capture_output=True, text=True, check=False)


def test_bench_takes_the_token(vf: str, tmp_path: Path) -> None:
    """Each operation and each interface opens the device in a way of its own."""
    rows = ("--size", "4K", "--operation", "map,teardown,close", "--backend", "iommufd,vfio_type1v2")
    file = tmp_path / "run.json"
    done = run_with_token(
        *("bench", "run", "--device", vf, *rows, "--processes", "1", "--values", "1", "--output", str(file))
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert len(result["rows"]) == 5
    # Other people read results: the token is a secret.
    assert "--vf-token ..." in " ".join(result["command"])
    assert FIRST not in file.read_text()


def test_scenarios_of_containers_take_the_token(vf: str) -> None:
    done = run_with_token("validate", "--device", vf, "--only", "container-map", "--json")
    (found,) = json.loads(done.stdout)["scenarios"]
    # This kernel does not flush. The scenario is played to its end.
    assert found["outcome"] == "violated", found
