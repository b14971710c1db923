# SPDX-License-Identifier: MIT
"""Each file here tests one machine of the lab. scripts/jobs.py or tests/lab/test_lab_machines.py boots it."""

import os
import subprocess

import pytest

from iommufd_py import DeviceError, pci
from iommufd_py.testing.devices import DevicePool, DeviceRequirements
from tests.waiting import patience


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests for other machines."""
    here = os.environ.get("IOMMUFD_TEST_MACHINE", "")
    for item in items:
        if item.path.parent.name == "machines" and not (here and item.path.stem.startswith(f"test_{here}")):
            item.add_marker(pytest.mark.skip(reason="for one machine of the lab: see scripts/jobs.py"))


def shell(command: str) -> str:
    """Run a shell command, which must succeed, and return its output."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def texts(bdf: str) -> list[str]:
    """Return the users of a device, as clauses."""
    return [use.text for use in pci.uses(bdf)]


def refused(bdf: str, text: str) -> None:
    """Check that every way to take a device refuses it for the same reason, and leaves it on its driver."""
    before = pci.pci_device(bdf).driver
    for take in (pci.bind_vfio, pci.unbind, lambda one: DevicePool([one]).take(DeviceRequirements())):
        with pytest.raises(DeviceError, match=f"{bdf} is in use: .*{text}"):
            take(bdf)
    with pytest.raises(DeviceError, match=text), pci.vfio_bound(bdf):
        raise AssertionError
    assert pci.pci_device(bdf).driver == before
    assert bdf not in pci.remembered()
