# SPDX-License-Identifier: MIT
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from iommufd_py.lab.guest import forwarded_environment, guest_script, native_init, share_args

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(deadline=None)  # a process each
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
    """Run a guest script on this machine, its log marks aside."""
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


def test_a_missing_working_directory_is_said() -> None:
    script = guest_script(["true"], cwd=Path("/no/such"), environment={})
    got = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
    assert got.returncode == 125
    assert "/no/such" in got.stderr


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
        mount_share=lambda index, path: ["mount", "-t", "hostfs", "-o", str(path), f"n{index}", str(path)],
    )
    assert "mount -t hostfs -o '/a b' n0 '/a b' || fail " in script
    assert "mount -t hostfs -o /w n1 /w || fail " in script
    assert "9p" not in script


@settings(deadline=None)
@given(words)
def test_the_first_process_of_user_mode_linux_is_a_valid_shell_script(name: str) -> None:
    init = native_init(Path("/a b", name), f"/it's/{name}")
    subprocess.run(["sh", "-n"], input=init.encode(), check=True)


def test_a_comma_in_a_path_is_doubled_for_qemu() -> None:
    assert "path=/a,,b," in share_args([Path("/a,b")])[1]


def test_python_in_the_guest_writes_through_a_buffer() -> None:
    """Without one it takes the 32 KiB that a virtio console writes for all, and what was left is lost."""
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
