# SPDX-License-Identifier: MIT
"""The pool gives back its devices after any end of the run."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py import pci
from iommufd_py.lab.machine import TEST_DEVICES
from tests.conftest import IN_LAB
from tests.waiting import DEFAULT_SIGNALS, NO_PLUGINS, patience, wait_until

SPARE = TEST_DEVICES[1]
TAKES_IT = """
import time

import pytest

def test_it(bdf):
    {}
"""

PYTEST = [*DEFAULT_SIGNALS, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *NO_PLUGINS.split()]


@pytest.mark.skipif(not IN_LAB, reason="takes the lab's second device; 'iommufd lab run -- pytest tests/vtd' does that")
@pytest.mark.parametrize("end", ["failure", signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str | signal.Signals) -> None:
    before = pci.pci_device(SPARE).driver
    assert before != "vfio-pci"
    monkeypatch.setenv("IOMMUFD_BDF", SPARE)
    (tmp_path / "test_it.py").write_text(
        TAKES_IT.format("raise RuntimeError" if end == "failure" else "time.sleep(99)")
    )
    with subprocess.Popen(PYTEST, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as run:
        if end != "failure":
            wait_until(lambda: run.poll() is not None or pci.pci_device(SPARE).driver == "vfio-pci")
            assert run.poll() is None
            run.send_signal(end)
        output, _ = run.communicate(timeout=patience(60))
    assert run.returncode == (1 if end == "failure" else 2), output
    assert pci.pci_device(SPARE).driver == before


@pytest.mark.skipif(not IN_LAB, reason="takes the lab's second device; 'iommufd lab run -- pytest tests/vtd' does that")
def test_two_runs_never_have_the_same_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = pci.pci_device(SPARE).driver
    monkeypatch.setenv("IOMMUFD_BDF", SPARE)
    (tmp_path / "test_it.py").write_text(TAKES_IT.format("time.sleep(999)"))
    with subprocess.Popen(PYTEST, cwd=tmp_path, stdout=subprocess.DEVNULL) as first:
        try:
            wait_until(lambda: first.poll() is not None or pci.pci_device(SPARE).driver == "vfio-pci")
            assert first.poll() is None
            second = subprocess.run(PYTEST, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert second.returncode == 1
            assert f"{SPARE} is held by " in second.stdout
            assert f"(process {first.pid})" in second.stdout
            assert pci.pci_device(SPARE).driver == "vfio-pci"
        finally:
            first.send_signal(signal.SIGINT)
    assert pci.pci_device(SPARE).driver == before
