# SPDX-License-Identifier: MIT
"""CAP_IPC_LOCK is dropped for a block, and restored only if it was in effect."""

import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.uapi.syscalls import has_ipc_lock, pages_are_charged, without_ipc_lock
from tests.programs import MAY_READ_ALL
from tests.waiting import patience


def in_effect() -> bool:
    """Read the capability from procfs instead of the system call."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 14 & 1)
    raise AssertionError("no CapEff")


def main() -> None:
    before = in_effect()
    assert has_ipc_lock() == before
    with without_ipc_lock():
        assert not in_effect()
        assert pages_are_charged()
        with without_ipc_lock():
            assert not in_effect()
        assert not in_effect()
    assert in_effect() == before


def test_the_capability_is_restored_as_it_was() -> None:
    main()


@pytest.mark.slow
@pytest.mark.skipif(not in_effect(), reason="needs CAP_IPC_LOCK, to drop it")
@pytest.mark.parametrize(
    "drop",
    [
        "--bounding-set=-ipc_lock",
        f"--reuid=65534 {MAY_READ_ALL}",
    ],
)
def test_a_process_without_the_capability_keeps_going(drop: str) -> None:
    code = f"import runpy; assert not runpy.run_path({__file__!r}, run_name='__main__')['in_effect']()"
    done = subprocess.run(
        ["setpriv", *drop.split(), "--clear-groups", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=patience(12),
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not in_effect(), reason="needs CAP_IPC_LOCK")
def test_root_of_another_user_namespace_is_charged() -> None:
    code = f"import runpy; assert runpy.run_path({__file__!r})['pages_are_charged']()"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(12), check=False)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()
