# SPDX-License-Identifier: MIT
"""Boot guests, and check the promises of `iommufd lab run` to its user."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from iommufd_py.lab import kernel, vm
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import TEST_DEVICES, Machine
from iommufd_py.lab.progress import Silent
from iommufd_py.lab.qemu import QEMU
from tests.lab.kernel_reports import EACH_REPORT, check_that_a_report_fails
from tests.programs import IOMMUFD
from tests.terminal import TerminalSession
from tests.waiting import DEFAULT_SIGNALS, patience, wait_until


@pytest.fixture(scope="session")
def image() -> Path:
    return kernel.image("stock", Silent())


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory of the test, shared with the guest. After the test no QEMU may still use it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert qemus(tmp_path) == []


def qemus(shared: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # The process ended in between.
        if b"qemu-system" in words and str(shared).encode() in words:
            found.append(int(path.parent.name))
    return found


class Guest:
    """A run with its output."""

    def __init__(self, image: Path, *command: str, machine: Machine | None = None, timeout: float = 120) -> None:
        out, err = BytesIO(), BytesIO()
        self.result = vm.run_in_vm(image, command, machine, timeout=timeout, stdout=out, stderr=err)
        self.stdout, self.stderr = out.getvalue().decode(), err.getvalue().decode()


ECAP = "cat /sys/class/iommu/dmar0/intel-iommu/ecap"


def test_a_command_runs_as_it_would_here(image: Path, shared: Path) -> None:
    script = f"""
        echo to stdout; echo to stderr >&2
        pwd; command -v python; id -u
        echo $IOMMUFD_LAB_ACCEL / $IOMMUFD_LAB_MACHINE / $IOMMUFD_LAB_KERNEL
        {ECAP}
        cat /proc/sys/vm/nr_hugepages
        for device in {" ".join(TEST_DEVICES)}; do
            echo $(cat /sys/bus/pci/devices/$device/device) $(ls -1 /sys/bus/pci/devices/$device/iommu_group/devices)
        done
        ls -d /dev/iommu /sys/kernel/debug/iommu /sys/kernel/tracing/kprobe_events
        echo result > written; echo lost > /tmp/iommufd-lab-lost
        touch /usr/refused
        exit 7
    """
    guest = Guest(image, "sh", "-c", script)
    ecap = guest.stdout.splitlines()[5]
    assert guest.stdout.splitlines() == [
        "to stdout",
        str(shared),
        str(Path(sys.prefix, "bin/python")),
        "0",
        f"{guest.result.accel} / q35 intel-iommu snoop-control=off / {image}",
        ecap,
        "192",
        *[f"0x11e8 {device}" for device in TEST_DEVICES],
        "/dev/iommu",
        "/sys/kernel/debug/iommu",
        "/sys/kernel/tracing/kprobe_events",
    ]
    assert int(ecap, 16) >> 7 & 1 == 0
    assert guest.stderr.splitlines()[0] == "to stderr"
    assert "Read-only file system" in guest.stderr
    assert (shared / "written").read_text() == "result\n"
    assert not Path("/tmp/iommufd-lab-lost").exists()
    assert guest.result.status == 7
    assert guest.result.problem is None
    assert "Linux version" in guest.result.kernel_log.read_text()


@pytest.mark.parametrize("scalable", [False, True])
def test_a_coherent_machine_says_so_in_ecap(image: Path, scalable: bool) -> None:
    guest = Guest(image, "sh", "-c", ECAP, machine=Machine(coherent=True, scalable=scalable))
    ecap = int(guest.stdout, 16)
    assert ecap >> 7 & 1 == 1
    assert ecap >> 43 & 1 == scalable


def test_a_panic_is_a_failure_and_its_log_is_kept(image: Path) -> None:
    guest = Guest(image, "sh", "-c", "echo before; echo c > /proc/sysrq-trigger")
    assert guest.stdout == "before\n"
    assert guest.result.status is None
    assert guest.result.problem is not None
    assert "Kernel panic - not syncing: sysrq triggered crash" in guest.result.problem
    assert str(guest.result.kernel_log) in guest.result.problem
    assert "sysrq_handle_crash" in guest.result.log_excerpt()


def test_a_task_that_hangs_is_a_failure(image: Path) -> None:
    """The unbind of an open device waits. After a signal, nothing can end that wait."""
    script = f"""
        echo 2 > /proc/sys/kernel/hung_task_timeout_secs
        iommufd device bind {TEST_DEVICES[0]}
        exec 3<> /dev/vfio/devices/vfio0
        (exec 3>&-; echo {TEST_DEVICES[0]} > /sys/bus/pci/drivers/vfio-pci/unbind) &
        sleep 2; kill $!; sleep 10
        exec 3>&-; wait; echo released
    """
    guest = Guest(image, "sh", "-c", script)
    assert guest.stdout.endswith("released\n")
    assert {splat.kind for splat in guest.result.splats} == {"hung task"}
    assert "vfio_unregister_group_dev" in guest.result.log_excerpt()


@EACH_REPORT
def test_a_report_fails_a_command_that_succeeded(shared: Path, image: Path, level: int, report: str) -> None:
    check_that_a_report_fails(image, level, report)


def test_a_guest_that_hangs_is_stopped(image: Path) -> None:
    guest = Guest(image, "sleep", "1000", timeout=patience(30))
    assert guest.result.timed_out
    assert guest.result.status is None
    assert guest.result.problem is not None
    assert re.search(r"was stopped after \d+ s", guest.result.problem)
    assert "iommufd-lab: run: sleep 1000" in guest.result.log_excerpt()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_qemu_is_left_behind(image: Path, shared: Path, number: int) -> None:
    child = subprocess.Popen(
        [
            *DEFAULT_SIGNALS,
            *(IOMMUFD, "lab", "run", "--fresh", "--kernel", str(image)),
            *("--", "sh", "-c", "touch running; sleep 1000"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_until((shared / "running").exists)
    assert len(qemus(shared)) == 1
    child.send_signal(number)
    _, errors = child.communicate(timeout=patience(60))
    assert child.returncode != 0
    assert b"Traceback" not in errors
    wait_until(lambda: qemus(shared) == [])


def test_two_at_once_do_not_meet(image: Path) -> None:
    children = [
        subprocess.Popen(
            [IOMMUFD, "lab", "run", "--fresh", "--kernel", str(image), "--", "sh", "-c", f"echo {index}; exit {index}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in (3, 4)
    ]
    outputs = [child.communicate(timeout=patience(120))[0] for child in children]
    assert outputs == ["3\n", "4\n"]
    assert [child.returncode for child in children] == [3, 4]


def test_input_arrives_and_no_output_is_lost_to_a_slow_reader(image: Path, shared: Path) -> None:
    text = "".join(f"{number}\n" for number in range(100_000))
    (shared / "input").write_text(text)
    # Append to a file: QEMU would truncate a file that it gets directly.
    (shared / "output").write_text("first\n")
    pipeline = f"{IOMMUFD} lab run --fresh --kernel {image} -- cat < input | (sleep 20; cat) >> output"
    subprocess.run(["bash", "-o", "pipefail", "-c", pipeline], check=True)
    assert (shared / "output").read_text() == "first\n" + text


def test_an_image_that_cannot_boot_is_refused(shared: Path) -> None:
    (shared / "text").write_text("this is no kernel")
    with pytest.raises(LabError, match="text is not a bzImage"):
        kernel.image(str(shared / "text"), Silent())
    done = subprocess.run(
        [IOMMUFD, "lab", "run", "--fresh", "--kernel", "no/such", "--", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    known = "stock, patched, patched-refined, or the path of a bzImage"
    assert done.stderr == f"iommufd: error: there is no kernel no/such: give {known}\n"


def test_a_guest_that_dies_on_kvm_runs_on_an_emulated_cpu(
    image: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which(QEMU)
    stub = shared / QEMU
    stub.write_text(f"""#!/bin/sh
        if [ "$1" != --version ] && [ ! -e {shared}/died ]; then touch {shared}/died; exit 1; fi
        exec {real} "$@"
    """)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(shared), prepend=os.pathsep)
    monkeypatch.setattr(vm, "kvm_problem", lambda: None)
    guest = Guest(image, "sh", "-c", "echo $IOMMUFD_LAB_ACCEL")
    assert (shared / "died").exists()
    assert guest.result.accel == "tcg"
    assert guest.stdout == "tcg\n"
    assert guest.result.status == 0


def test_a_shell_on_a_terminal(image: Path, shared: Path) -> None:
    with TerminalSession([IOMMUFD, "lab", "shell", "--kernel", str(image)]) as session:
        session.read_until(r"lab:\S+# ")
        session.write("echo $((6 * 7)) $PWD\n")
        session.read_until(rf"42 {shared}\r")
        session.write("exit\n")
        assert session.exit_status() == 0
