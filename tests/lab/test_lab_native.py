# SPDX-License-Identifier: MIT
"""Boot User-Mode Linux, and check the promises of `iommufd lab run --native` to its user."""

import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from iommufd_py.lab import kernel, native
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.confine import can_confine
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import NativeMachine
from iommufd_py.lab.progress import Silent
from iommufd_py.lab.runs import RunResult
from tests.lab.kernel_reports import EACH_REPORT, check_that_a_report_fails
from tests.programs import IOMMUFD
from tests.terminal import TerminalSession
from tests.waiting import DEFAULT_SIGNALS, patience, wait_until


@pytest.fixture(scope="session")
def image() -> Path:
    return kernel.image("stock", Silent(), Configuration("um"))


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory of the test, shared with the guest."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def run(
    image: Path, *command: str, machine: NativeMachine | None = None, timeout: float = 60
) -> tuple[RunResult, str, str]:
    out, err = BytesIO(), BytesIO()
    result = native.run_natively(image, command, machine, timeout=timeout, stdout=out, stderr=err)
    return result, out.getvalue().decode(), err.getvalue().decode()


def descendants(pid: int) -> set[int]:
    """Return *pid* and the processes below it."""
    found = {pid}
    # Path.glob() fails if a process ends in between; glob.glob() does not.
    for name in glob.glob("/proc/[0-9]*/task/*/children"):
        path = Path(name)
        try:
            parent, children = int(path.parts[2]), path.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # The process ended in between.
        if parent == pid:
            found |= {one for child in children for one in descendants(int(child))}
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_descriptors_have_their_names(image: Path) -> None:
    """udev makes them elsewhere; bash cannot substitute a process without them."""
    script = "cat <(echo substituted); echo piped | cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr"
    result, stdout, stderr = run(image, "bash", "-c", script)
    assert (result.status, stdout, stderr) == (0, "substituted\npiped\nout\n", "err\n")


def test_a_command_runs_as_it_would_here(image: Path, shared: Path) -> None:
    script = """
        echo to stdout; echo to stderr >&2
        pwd; command -v python; id -u
        echo $IOMMUFD_LAB_ACCEL / $IOMMUFD_LAB_MACHINE / $IOMMUFD_LAB_KERNEL
        ls -d /dev/iommu /sys/kernel/debug/iommu
        if [ -t 1 ]; then echo terminal; fi
        cat
        echo result > written; echo lost > /tmp/iommufd-lab-lost; echo lost > /etc/iommufd-lab-lost
        exit 7
    """
    result, stdout, stderr = run(image, "sh", "-c", script)
    assert stdout.splitlines() == [
        "to stdout",
        str(shared),
        str(Path(sys.prefix, "bin/python")),
        "0",
        f"uml / native CPU and caches, mock IOMMU / {image}",
        "/dev/iommu",
        "/sys/kernel/debug/iommu",
    ]
    assert stderr == "to stderr\n"
    assert (shared / "written").read_text() == "result\n"
    assert not Path("/tmp/iommufd-lab-lost").exists()
    assert not Path("/etc/iommufd-lab-lost").exists()
    assert result.status == 7
    assert result.problem is None
    assert "Linux version" in result.kernel_log.read_text()


def test_nothing_of_this_machine_can_be_written_but_the_current_directory(
    image: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    script = f"""
        touch {Path.home()}/iommufd-lab-lost; touch {outside}/lost; touch inside
        export LIBMOUNT_FORCE_MOUNT2=always  # as the lab does, for hostfs
        mount -o remount,rw / && mount -t hostfs -o / none /mnt
        touch {Path.home()}/iommufd-lab-lost; cd /mnt{outside} && touch lost; echo lost > kept; rm kept
    """
    (outside / "kept").write_text("kept")
    _, _, stderr = run(image, "sh", "-c", script)
    assert f"{Path.home()}/iommufd-lab-lost': Read-only file system" in stderr
    if can_confine():
        assert f"{Path.home()}/iommufd-lab-lost': Permission denied" in stderr
        assert not (Path.home() / "iommufd-lab-lost").exists()
        assert [path.name for path in outside.iterdir()] == ["kept"]
        assert (outside / "kept").read_text() == "kept"
    assert (shared / "inside").exists()


def test_no_privilege_is_needed(image: Path, shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("every test here shows it")
    # The user nobody may have no access to the original directories of the interpreter, this package, and the packages
    # that it imports. So they are mounted below a directory that nobody can access.
    sources = {"base": sys.base_prefix, "site": sysconfig.get_path("platlib"), "code": Path(kernel.__file__).parents[2]}
    for name in sources:
        (shared / name).mkdir()
    mounts = [shlex.join(["mount", "--bind", str(source), str(shared / name)]) for name, source in sources.items()]
    shutil.copy(image, shared / "linux")
    os.chown(shared, 65534, 65534)
    for directory in (shared, *shared.parents):
        if "pytest" in directory.name:
            directory.chmod(0o755)
    program = """
from pathlib import Path
from iommufd_py.lab.native import run_natively
command = "id -u; ls /dev/iommu; touch made; cat /etc/shadow; echo > /etc/shadow"
result = run_natively(Path("linux"), ["sh", "-c", command])
assert result.problem is None, result
"""
    python = str(
        shared / "base" / Path(os.path.realpath(sys.executable)).relative_to(os.path.realpath(sys.base_prefix))
    )
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
    script = "; ".join([*mounts, shlex.join(["exec", *nobody, "--bounding-set=-all", python, "-c", program])])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "HOME": str(shared), "PYTHONPATH": f"{shared}/code:{shared}/site"},
    )
    assert done.stdout == "0\n/dev/iommu\n", done.stderr
    assert "shadow: Permission denied" in done.stderr
    assert (shared / "made").stat().st_uid == 65534
    assert done.returncode == 0


@pytest.mark.parametrize("memory", [512 << 20, 1 << 30])
def test_memory_is_what_was_asked_for(image: Path, memory: int) -> None:
    _, stdout, _ = run(image, "sh", "-c", "grep MemTotal /proc/meminfo", machine=NativeMachine(memory_bytes=memory))
    assert 0.9 * memory < int(stdout.split()[1]) << 10 <= memory


def test_more_memory_than_there_is_is_refused_at_once(image: Path) -> None:
    too_much = shutil.disk_usage(native.MEMORY_DIRECTORY).free + (1 << 30)
    with pytest.raises(LabError, match=r"MiB free and the guest's memory is .* ask for less with --memory"):
        run(image, "true", machine=NativeMachine(memory_bytes=too_much))


def test_more_memory_than_the_machine_has_gets_no_useless_remedy(image: Path) -> None:
    with pytest.raises(LabError, match=r"ask for less with --memory$"):
        run(image, "true", machine=NativeMachine(memory_bytes=1 << 50))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts, in a mount namespace of its own")
@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        ("mount -o remount,noexec /dev/shm", "the guest's memory cannot be a file in /dev/shm; run: sudo "),
        ("mount -o remount,size=64M /dev/shm", "ask for less with --memory, or run: sudo "),
    ],
    ids=["noexec", "too-small"],
)
def test_the_remedy_for_the_memory_directory_is_right(image: Path, spoil: str, refusal: str) -> None:
    """After the command that the error names, the same guest runs."""
    run_it = shlex.join(
        [IOMMUFD, "lab", "run", "--fresh", "--native", "--memory", "512M", "--kernel", str(image), "--", "true"]
    )

    def in_namespace(*steps: str) -> subprocess.CompletedProcess[str]:
        words = ["unshare", "-m", "sh", "-c", "; ".join(("mount -t tmpfs tmpfs /dev/shm", spoil, *steps))]
        return subprocess.run(words, capture_output=True, text=True, timeout=patience(60), check=False)

    before = in_namespace(run_it)
    assert before.returncode == 1
    text, _, remedy = before.stderr.strip().partition(refusal)
    assert text.startswith("iommufd: error: ")
    assert remedy.startswith("mount "), before.stderr
    after = in_namespace(remedy, run_it)
    assert after.returncode == 0, after.stderr


def test_the_remedy_for_a_cache_that_cannot_be_made_is_right(
    image: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [IOMMUFD, "lab", "run", "--fresh", "--native", "--memory", "512M", "--kernel", str(image), "--", "true"]
    (shared / "file").touch()
    for impossible in (Path("/proc"), shared / "file"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(impossible))
        before = subprocess.run(words, capture_output=True, text=True, check=False)
        assert before.returncode == 1
        assert "set XDG_CACHE_HOME to a directory of your own" in before.stderr
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / 'my "cache"'))
    before = subprocess.run(words, capture_output=True, text=True, check=False)
    assert before.returncode == 1
    assert "contains a quotation mark: set XDG_CACHE_HOME to a directory without one" in before.stderr
    for possible in ("cache", "cache of mine", "cache,with=more;'$HOME'"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(shared / possible))
        after = subprocess.run(words, capture_output=True, text=True, check=False)
        assert after.returncode == 0, after.stderr


def test_remedies_that_name_a_run_in_a_guest(image: Path, shared: Path) -> None:
    """The error about a directory without results names a command that writes one there; it runs in a guest."""
    directory = shared / "a directory"
    directory.mkdir()
    history = shlex.join([IOMMUFD, "bench", "history", str(directory)])
    before = subprocess.run(history, shell=True, capture_output=True, text=True, check=False)
    assert before.returncode == 1
    remedy = re.search(r'write one with "iommufd (.*)"', before.stderr)
    assert remedy is not None, before.stderr
    short = f"{IOMMUFD} {remedy[1]} --size 4K --processes 1 --values 1"
    result, _, err = run(image, "sh", "-c", short)
    assert result.status == 0, err
    assert subprocess.run(history, shell=True, capture_output=True, check=False).returncode == 0


def test_the_mock_driver_maps(image: Path) -> None:
    script = """
from iommufd_py import DmaBuffer, Iommufd, MockDevice
with Iommufd() as iommufd, DmaBuffer(64 << 20) as buffer:
    device, ioas = MockDevice(iommufd), iommufd.alloc_ioas()
    device.attach(ioas)
    with ioas.map(buffer, 1 << 24):
        print("mapped")
"""
    result, stdout, stderr = run(image, "python", "-c", script)
    assert (result.problem, result.status, stdout, stderr) == (None, 0, "mapped\n", "")


@EACH_REPORT
def test_a_report_fails_a_command_that_succeeded(image: Path, level: int, report: str) -> None:
    check_that_a_report_fails(image, level, report, "--native")


def test_a_panic_is_a_failure_and_its_log_is_kept(image: Path) -> None:
    # The first process cannot power off, and a kernel panics without that process.
    python = os.path.realpath(sys.executable)
    result, stdout, _ = run(image, "sh", "-c", f"mount --bind /bin/false {python}; echo before")
    assert stdout == "before\n"
    assert result.problem is not None
    assert "Kernel panic - not syncing: Attempted to kill init!" in result.problem
    assert str(result.kernel_log) in result.problem
    assert "do_exit" in result.log_excerpt()


def test_a_guest_that_ends_before_its_command_is_a_failure(image: Path) -> None:
    result, _, _ = run(image, "python", "-c", "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)")
    assert result.status is None
    assert result.problem is not None
    assert "ended before the command did" in result.problem


def test_a_guest_that_hangs_is_stopped(image: Path) -> None:
    result, _, _ = run(image, "sleep", "1000", timeout=patience(10))
    assert result.timed_out
    assert result.status is None
    assert result.problem is not None
    assert re.search(r"was stopped after \d+ s", result.problem)
    assert "iommufd-lab: run: sleep 1000" in result.log_excerpt()


def test_a_background_process_does_not_hold_the_guest(image: Path) -> None:
    result, stdout, _ = run(image, "sh", "-c", "sleep 1000 & echo done")
    assert result.status == 0
    assert stdout == "done\n"


def start_sleeping(image: Path, shared: Path) -> "subprocess.Popen[bytes]":
    """Start a guest and wait until its command runs. The command does not end by itself."""
    child = subprocess.Popen(
        [
            *DEFAULT_SIGNALS,
            *(IOMMUFD, "lab", "run", "--fresh", "--native", "--kernel", str(image)),
            *("--", "sh", "-c", "touch running; sleep 1000"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_until((shared / "running").exists)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(image: Path, shared: Path, number: int) -> None:
    child = start_sleeping(image, shared)
    family = descendants(child.pid)
    assert len(family) > 2  # These are the tool, the kernel, and a process for each address space in the guest.
    child.send_signal(number)
    _, errors = child.communicate(timeout=patience(60))
    assert child.returncode != 0
    assert b"Traceback" not in errors
    wait_until(lambda: not any(map(alive, family)))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="this machine gives us one CPU as it is")
def test_a_guest_stays_on_one_cpu(image: Path, shared: Path) -> None:
    child = start_sleeping(image, shared)
    try:
        guests = [os.sched_getaffinity(one) for one in descendants(child.pid) - {child.pid}]
        assert len(set.union(*guests)) == 1
        assert os.sched_getaffinity(child.pid) == os.sched_getaffinity(0)
    finally:
        child.terminate()
        child.communicate(timeout=patience(60))


def test_no_output_is_lost(image: Path) -> None:
    _, stdout, _ = run(image, "seq", "200000")
    assert stdout == "".join(f"{number}\n" for number in range(1, 200001))


def test_two_at_once_do_not_meet(image: Path) -> None:
    children = [
        subprocess.Popen(
            [
                IOMMUFD,
                "lab",
                "run",
                "--native",
                "--kernel",
                str(image),
                "--",
                "sh",
                "-c",
                f"echo {index}; exit {index}",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in (3, 4)
    ]
    outputs = [child.communicate(timeout=patience(60))[0] for child in children]
    assert outputs == ["3\n", "4\n"]
    assert [child.returncode for child in children] == [3, 4]


def test_a_shell_on_a_terminal(image: Path, shared: Path) -> None:
    with TerminalSession([IOMMUFD, "lab", "shell", "--native", "--kernel", str(image)]) as session:
        session.read_until(r"lab:\S+# ")
        session.write("echo $((6 * 7)) $PWD $IOMMUFD_LAB_ACCEL; test -t 0 && exit 3\n")
        session.read_until(rf"42 {shared} uml\r")
        assert session.exit_status() == 3
