# SPDX-License-Identifier: MIT
"""The scripts that set up a guest. They run in a shell of this machine, and need no guest."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.lab.guest import (
    BEGIN_MARK,
    failure,
    forwarded_environment,
    guest_script,
    mount_hostfs,
    native_init,
    share_args,
)

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.slow
@given(arguments=st.lists(words, max_size=4), value=words)
def test_the_script_is_a_valid_shell_script_whatever_the_words(arguments: list[str], value: str) -> None:
    script = guest_script(
        ["printf", "%s", *arguments],
        cwd=Path("/a b"),
        environment={"NAME": value},
        shares=[Path("/a b"), Path("/it's")],
        cached=[Path("/a b/venv")],
    )
    subprocess.run(["sh", "-n"], input=script.encode(), check=True)


def run_here(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a guest script on this machine, without its marks in the kernel log."""
    script = guest_script(command, cwd=Path("/"), environment=environment)
    return subprocess.run(
        ["sh"], input=script.replace("/dev/kmsg", "/dev/null"), capture_output=True, text=True, check=False
    )


def test_arguments_and_environment_arrive_unchanged_and_alone() -> None:
    words = ["a b", "$HOME", "'", '"', "\\", "*", "", "\n"]
    got = run_here(["printf", "<%s>", *words], PATH="/usr/bin:/bin")
    assert got.stdout == "".join(f"<{word}>" for word in words)
    assert run_here(["env"], PATH="/usr/bin:/bin", A="x y").stdout.splitlines() == ["A=x y", "PATH=/usr/bin:/bin"]


def test_the_status_is_that_of_the_command() -> None:
    assert run_here(["sh", "-c", "exit 7"], PATH="/usr/bin:/bin").returncode == 7
    assert run_here(["no-such-command"], PATH="/usr/bin:/bin").returncode == 127


def fail_here(script: str, kernel_log: Path) -> str | None:
    """Run a script whose set-up fails on this machine, and return its message in the kernel log."""
    script = script.replace("/dev/kmsg", shlex.quote(str(kernel_log)))
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (125, "", "")
    (line,) = kernel_log.read_text().splitlines()
    # The longest line that the kernel log takes: PRINTKRB_RECORD_MAX, less the kernel's prefix.
    assert len(line.encode()) < 900
    return failure(f"[    0.010000] Run init\n[    0.020000] {line}\n[    0.030000] reboot: System halted\n")


def test_a_missing_working_directory_is_said(tmp_path: Path) -> None:
    script = guest_script(["true"], cwd=Path("/no/such it's"), environment={})
    assert fail_here(script, tmp_path / "log") == "there is no directory /no/such it's"


def test_the_message_of_mount_is_printed(tmp_path: Path) -> None:
    command = ["sh", "-c", 'printf "%s\n" "$@" >&2; exit 32', "", "mount: /w: it's *\\n", "       $HOME is unknown."]
    script = guest_script(["true"], cwd=Path("/"), environment={}, shares=[Path("/w")], mount_share=lambda *_: command)
    said = fail_here(script, tmp_path / "log")
    assert said is not None
    assert said.startswith(r"mount: /w: it's *\n $HOME is unknown. [sh -c printf ")


def test_a_failure_is_cut_to_what_the_kernel_takes(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo begin; seq 10000; exit 32"]
    script = guest_script(["true"], cwd=Path("/"), environment={}, shares=[Path("/w")], mount_share=lambda *_: command)
    assert "begin 1 2 3 4 5 6 7 8" in (fail_here(script, tmp_path / "log") or "")


def test_the_words_of_the_command_are_no_failure() -> None:
    log = (
        f"[    0.010000] {BEGIN_MARK}echo 'iommufd-lab: failed: to convince'\n[    0.020000] iommufd-lab: failed: no\n"
    )
    assert failure(log) is None


def test_the_first_process_of_user_mode_linux_says_what_fails_and_ends(tmp_path: Path) -> None:
    init = native_init(Path("/no/such"), "/no/python", terminal=False).replace("try mount", "try false")
    init = init.replace("exec /no/python", "exit 125 #")
    assert fail_here(init, tmp_path / "log") == "[false -t proc proc /proc]"


def test_only_directories_under_a_share_need_to_be_held_back() -> None:
    script = guest_script(
        ["true"], cwd=Path("/w"), environment={}, shares=[Path("/w")], cached=[Path("/w/venv"), Path("/opt/venv")]
    )
    assert "/w/venv" in script
    assert "/opt/venv" not in script


def test_shares_are_mounted_as_the_machine_wants_it() -> None:
    script = guest_script(
        ["true"],
        cwd=Path("/w"),
        environment={},
        shares=[Path("/a b"), Path("/w")],
        mount_share=mount_hostfs,
    )
    assert "\ntry env LIBMOUNT_FORCE_MOUNT2=always mount -t hostfs -o '/a b' none '/a b'\n" in script
    assert "\ntry env LIBMOUNT_FORCE_MOUNT2=always mount -t hostfs -o /w none /w\n" in script
    assert "9p" not in script


@pytest.mark.slow
@given(words, st.booleans())
def test_the_first_process_of_user_mode_linux_is_a_valid_shell_script(name: str, terminal: bool) -> None:
    init = native_init(Path("/a b", name), f"/it's/{name}", terminal=terminal)
    subprocess.run(["sh", "-n"], input=init.encode(), check=True)


def test_a_comma_in_a_path_is_doubled_for_qemu() -> None:
    assert "path=/a,,b," in share_args([Path("/a,b")])[1]


def test_python_in_the_guest_writes_through_a_buffer() -> None:
    """A virtio console accepts 32 KiB at a time. Unbuffered Python takes such a write for complete and loses the
    rest."""
    assert forwarded_environment({"PYTHONUNBUFFERED": "1", "PYTHONPATH": "/a"}) == {"PYTHONPATH": "/a"}


def test_secrets_and_host_sockets_stay_outside() -> None:
    host = {
        "LANG": "C",
        "PYTEST_ADDOPTS": "-x",
        "AWS_SECRET_ACCESS_KEY": "s",
        "SSH_AUTH_SOCK": "/x",
        "XDG_RUNTIME_DIR": "/y",
    }
    assert forwarded_environment(host) == {"LANG": "C", "PYTEST_ADDOPTS": "-x"}
