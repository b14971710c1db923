# SPDX-License-Identifier: MIT
"""Every error is one sentence on stderr and an exit status, without a traceback or a partial result."""

import json
import os
import platform
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from iommufd_py.cli import main

from iommufd_py import pci
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.results import document
from tests.cli_here import run_cli
from tests.programs import IOMMUFD, MAY_READ_ALL
from tests.unit.results.bench_results import process_run, result
from tests.waiting import DEFAULT_SIGNALS, patience

Cli = Callable[..., subprocess.CompletedProcess[str]]


def assert_one_sentence(done: subprocess.CompletedProcess[str], status: int, *texts: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    for text in texts:
        assert text in done.stderr


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, text=True, check=False, timeout=patience(24)
    )


@pytest.mark.skipif(DEV_IOMMU.exists(), reason="there is a /dev/iommu here")
def test_no_dev_iommu(cli: Cli) -> None:
    assert_one_sentence(cli("bench", "run", "--device", "mock"), 1, "no /dev/iommu", "modprobe iommufd")


@pytest.mark.skipif(DEV_IOMMU.exists(), reason="there is a /dev/iommu here")
def test_error_as_json(cli: Cli, tmp_path: Path) -> None:
    done = cli("bench", "run", "--device", "mock", "--json", "--output", str(tmp_path / "run.json"))
    assert done.returncode == 1
    assert "no /dev/iommu" in json.loads(done.stderr)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_unknown_device(cli: Cli) -> None:
    assert_one_sentence(cli("device", "bind", "ffff:1f:1f.7"), 1, "no PCI device ffff:1f:1f.7", "iommufd device list")


@pytest.mark.skipif(Path("/sys/bus/pci/drivers/vfio-pci").exists(), reason="vfio-pci is loaded here")
def test_a_driver_that_is_not_loaded_takes_nothing(cli: Cli) -> None:
    """The device must not lose its driver for that, and a dry run promises nothing."""
    free = [one.bdf for one in pci.list_devices() if not one.class_code.startswith("06") and not pci.uses(one.bdf)]
    if not free:
        pytest.skip("each device of this machine is in use")
    assert_one_sentence(
        cli("device", "bind", "--dry-run", free[0]), 1, f"vfio-pci cannot take {free[0]}", "'modprobe vfio-pci'"
    )


def test_restore_of_what_was_never_bound(cli: Cli) -> None:
    assert_one_sentence(cli("device", "restore", "ffff:1f:1f.7"), 1, "was not bound by 'iommufd device bind'")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "run"),
        ("device", "bind", "nonsense"),
        ("device", "show", "0000:3b:20.0"),
        ("device", "restore", "--all", "3b:00.0"),
        ("device", "list", "--group", "-1"),
        ("device", "list", "--id", "8086:1:2"),
        ("device", "list", "--class", "zz"),
        ("map", "--device", "MOCK"),
        ("map", "--device", "mock", "--bind"),
        ("dma", "check", "--device", "../../etc"),
        ("validate", "--device", "3b:00"),
        ("bench", "run", "--device", "x" * 5000),
        ("trace", "--seconds", "nan"),
        # A misspelt option is not the name of the command to run.
        ("trace", "--secnds", "3", "--", "true"),
        ("lab", "run", "--natve", "--", "true"),
        ("trace", "--seconds", "inf"),
        ("bench", "run", "--device", "mock", "--size", "0"),
        ("bench", "run", "--device", "mock", "--size", "4K,much"),
        ("bench", "run", "--device", "mock", "--values", "0"),
        ("bench", "run", "--device", "mock", "--size", "4097"),
        ("bench", "run", "--device", "mock", "--iova", "0x1ffffffffffffffff"),
        ("bench", "run", "--device", "mock", "--backing", "paper"),
        ("bench", "run", "--device", "mock", "--dma", "--operation", "attach"),
        ("bench", "run", "--device", "mock", "--bulk-unmap"),
        ("bench", "run", "--device", "mock", "--own-ioas"),
        ("bench", "plot", "/dev/null", "--html", "x.html", "--format", "png"),
        ("bench", "plot", "/dev/null", "--html", "x.html", "--force"),
        ("bench", "patch", "--precision", "3"),
        ("bench", "patch", "--native", "--times"),
        ("bench", "patch", "--kernels", "stok,patched"),
        ("bench", "patch", "--kernels", "stock,stock"),
        ("bench", "patch", "--kernels", ""),
        ("bench", "patch", "--kernels", "/dev/null,"),
        ("bench", "patch", "--", "--out", "x"),
        ("bench", "calibrate", "--other", ""),
        ("bench", "compare", "a", "b", "--threshold", "nan"),
        ("bench", "compare", "a", "b", "--threshold", "1e30"),
        ("info", "--registers", "--json"),
        ("bench", "plot", "/dev/null", "--directory", "-"),
        ("bench", "run", "--device", "mock", "--label", "x" * 1001),
        ("bench", "run", "--device", "mock", "--label", "  "),
        ("dma", "check", "--device", "3b:00.0", "--p2p", "0000:3b:00.0"),
        ("dma", "coherency", "--device", "3b:00.0", "--pasid", "1", "--container", "vfio_type1v2"),
        ("dma", "coherency", "--device", "3b:00.0", "--pasid", "0"),
        ("bench", "history", "/dev/null"),
        ("fleet", "report", "/dev/null"),
        ("lab", "run", "--rw", "/dev/null", "--", "true"),
        ("bench", "run", "--device", "mock", "--output", "new/"),
        ("bench", "run", "--device", "mock", "--dma"),
        ("bench", "trace", "--device", "mock", "--operation", "dma"),
        ("bench", "run", "--device", "mock", "--iova", "0x1000", "--alignment", "1M"),
        ("map", "--device", "mock", "--size", "1"),
        ("map", "--device", "mock", "--size", "4K", "--backing", "hugetlb-2m"),
        ("bisect", "--source", "/", "--good", "", "--bad", "b", "--rule", "1"),
        ("bisect", "--source", "/", "--good", "a", "--bad", " ", "--rule", "1"),
        # The guest would say so after minutes of compilation.
        ("bisect", "--source", "/", "--good", "a", "--bad", "b", "--scenario", "no-such"),
        ("bisect", "--source", "/", "--good", "a", "--bad", "b", "--scenario", ""),
        ("bisect", "--source", "/", "--good", "a", "--bad", "b", "--test", "tests/no_such.py::test"),
        ("bisect", "--source", "/", "--good", "a", "--bad", "b", "--test", ""),
        ("bisect", "--source", "/", "--good", "a", "--bad", "b", "--test=--help"),
        ("bisect", "--source", "/", "--good", "a", "--bad", "b", "--bench", "map 4097"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_is_status_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Error:" in done.stderr


def test_show_of_something_else(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert_one_sentence(cli("bench", "show", str(other)), 1, "has no schema")
    assert_one_sentence(cli("bench", "show", str(tmp_path / "absent.json")), 1, "cannot be read")


@pytest.mark.parametrize("command", [("bench", "show"), ("shell",)], ids=" ".join)
def test_file_that_cannot_be_read_has_a_remedy(cli: Cli, tmp_path: Path, command: tuple[str, ...]) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    done = cli(*command, str(tmp_path / "socket"))
    assert_one_sentence(done, 1, f"{tmp_path / 'socket'} cannot be read: No such device or address; give a")


def test_reader_that_goes_away() -> None:
    done = in_shell(f"{IOMMUFD} device list | true")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("bench", "--help"), ("bench", "run", "-h"), ("lab", "--help"), ("--version",)]
)
def test_help(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "iommufd" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("device", "show"),
        ("device", "list", "--id"),
        ("validate", "--explain"),
        ("fleet", "tags", "--name"),
        ("bisect", "--source", ".", "--good", "a", "--bad", "b", "--bench"),
        ("bisect", "--source", ".", "--good", "a", "--bad", "b", "--scenario"),
    ],
)
def test_long_nonsense_is_not_echoed_whole(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "/" * 5000)
    assert done.returncode == 2
    assert len(done.stderr) < 400


@pytest.mark.parametrize("command", ["device list", "info", "device list --json", "lab doctor"])
def test_a_full_disk_is_named_once(command: str) -> None:
    done = in_shell(f"{IOMMUFD} {command} > /dev/full")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written: No space left on device" in done.stderr.splitlines()[-1]
    assert done.stderr.count("No space left on device") == 1


def test_a_program_of_the_shell_can_close_the_output() -> None:
    program = "import sys; from iommufd_py.cli import main; main._run = lambda: sys.stdout.close() or 3; "
    done = subprocess.run([sys.executable, "-c", program + "main.main()"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    done = in_shell(f"{IOMMUFD} device list {closed}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("before", "options", "status", "words"),
    [
        ("mkdir gone && cd gone && rmdir ../gone", "", 1, "current directory"),
        ("true", "--device nonesuch", 4, "no device 'nonesuch'"),
        ("true", "--incoherent --kernel ./missing", 1, "no kernel ./missing"),
    ],
)
def test_a_guest_that_cannot_run_is_refused_before_a_build(
    tmp_path: Path, before: str, options: str, status: int, words: str
) -> None:
    """Nothing is built yet in this cache, and a build takes minutes."""
    done = in_shell(f"cd {tmp_path} && {before} && XDG_CACHE_HOME={tmp_path} {IOMMUFD} lab run {options} -- true")
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert words in done.stderr
    assert list(tmp_path.rglob("*.log")) == []


def test_bug_of_ours_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_: object) -> None:
        raise KeyError("a field")

    monkeypatch.setattr(main.iommufd, "main", broken)
    monkeypatch.setattr("sys.argv", ["iommufd", "info"])
    assert main._run() == 1
    error = capsys.readouterr().err
    assert "this is a bug of iommufd-py" in error
    assert "KeyError: 'a field'" in error
    assert len(error.splitlines()) == 1
    remedy = re.search(r"report it with this command and the traceback that '(iommufd -v)' shows$", error.strip())
    assert remedy is not None, error
    monkeypatch.setattr("sys.argv", [*remedy[1].split(), "info"])
    assert main._run() == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (PermissionError(1, "Operation not permitted", "/sys/x"), 1, "/sys/x: Operation not permitted"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 1, "not UTF-8"),
        (RecursionError(), 1, "nested too deeply"),
        (ImportError("No library named udev"), 1, "a library cannot be loaded: No library named udev; install it"),
        (OverflowError("can't convert"), 1, "a number is too large"),
        (OSError(28, "No space left on device"), 1, "the output cannot be written: No space left on device; free"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_failure_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    failure: BaseException,
    status: int,
    text: str,
) -> None:
    def broken(**_: object) -> None:
        raise failure

    monkeypatch.setattr(main.iommufd, "main", broken)
    monkeypatch.setattr("sys.argv", ["iommufd", "info"])
    assert main._run() == status
    error = capfd.readouterr().err
    assert text in error
    assert len(error.splitlines()) <= 1


def test_interrupt_while_it_imports() -> None:
    """Ctrl-C while the command line is imported: status 130, without a traceback."""
    program = (
        "import builtins, os, signal, sys\n"
        "really = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'click':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return really(name, *rest)\n"
        "from iommufd_py.cli import start\n"
        "builtins.__import__ = interrupted\n"
        "start.main()\n"
    )
    command = [*DEFAULT_SIGNALS, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience(60))
    assert done.returncode == 130
    assert done.stderr == ""


def test_full_stderr_does_not_change_the_status(tmp_path: Path) -> None:
    done = in_shell(f"ulimit -f 0; {IOMMUFD} bench show /nonexistent 2> {tmp_path / 'log'}")
    assert done.returncode == 1


def test_settings_of_matplotlib_do_not_reach_a_picture(tmp_path: Path) -> None:
    """matplotlib reads a file of the current directory, which can be that of another user."""
    document.save(result(process_run([1000, 1100, 1200], [500, 600, 700])), tmp_path / "run.json")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "matplotlibrc").write_text("text.usetex: True\nbackend: module://evil\nno.such: 1\n")
    written = []
    for place, variables in ((tmp_path, ""), (tmp_path / "evil", "MPLBACKEND=nonsense")):
        done = in_shell(f"cd {place}; {variables} {IOMMUFD} bench plot {tmp_path / 'run.json'} --html o.html")
        assert (done.returncode, done.stderr) == (0, "iommufd: o.html\n")
        written.append((place / "o.html").read_bytes())
    assert written[0] == written[1]


def test_names_of_files_are_text_in_every_output(tmp_path: Path) -> None:
    """A name can hold line breaks, codes that a terminal obeys, and bytes that are not UTF-8."""
    names = [tmp_path / os.fsdecode(one) for one in (b"a\x1b[31m.json", b"b\nc.json", b"d\xe9.json")]
    for name in names:
        document.save(result(process_run([1000, 1100, 1200], [500, 600, 700])), name)
    outputs = [
        ("compare", "--format", form) for form in ("table", "markdown", "cover-letter", "iommupt", "kcidb", "json")
    ]
    for words in (*outputs, ("plot", "--html", "-")):
        done = subprocess.run([IOMMUFD, "bench", *words, *names], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]|b\nc", done.stdout.decode()), words
    archive = tmp_path / "bug.tar.gz"
    done = subprocess.run([IOMMUFD, "report-bug", "--output", archive, *names], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(archive) as opened:
        assert "iommufd-bug/results/3-d\\udce9.json" in opened.getnames()


@pytest.mark.parametrize("name", ["", "a;b c", "\udcff", "-p"])
@pytest.mark.parametrize("options", [(), ("--exporter",), ("--json",)])
def test_a_machine_whose_name_is_no_place(name: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell would run the commands that `fleet tags` prints. The kernel accepts any bytes as a name."""
    monkeypatch.setattr(platform, "node", lambda: name)
    status, out, err = run_cli(monkeypatch, "fleet", "tags", *options)
    assert (status, out) == (1, "")
    assert "labgrid cannot use the name of this machine" in err
    assert "--name" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a user without another process")
def test_libraries_load_where_no_thread_can_start() -> None:
    """OpenBLAS sent SIGINT to the process, which ended as after Ctrl-C."""
    program = f"{sys.executable} -c 'import iommufd_py.results.scientific; print(1)'"
    done = in_shell(f"ulimit -u 1; exec setpriv --reuid=4200000 --clear-groups {MAY_READ_ALL} {program}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize("kib", [100_000, 150_000, 200_000, 250_000, 320_000])
@pytest.mark.parametrize("command", ["compare FILE FILE", "plot FILE --html /dev/null"])
def test_too_little_memory_is_one_sentence(command: str, kib: int, tmp_path: Path) -> None:
    """A library that gets no memory when it is loaded tried for ever, and only SIGKILL ended the command."""
    document.save(result(process_run(), process_run(), process_run()), tmp_path / "run.json")
    words = f"{IOMMUFD} bench {command.replace('FILE', str(tmp_path / 'run.json'))}"
    done = in_shell(f"ulimit -v {kib}; timeout -s KILL {patience(20):g} {words}")
    assert_one_sentence(done, 1, "not enough memory")
