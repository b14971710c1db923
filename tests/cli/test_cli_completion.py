# SPDX-License-Identifier: MIT
"""Completion in each installed shell."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_prints_the_script(cli: Cli, shell: str) -> None:
    done = cli("completion", shell)
    assert done.returncode == 0, done.stderr
    assert f"_IOMMUFD_COMPLETE={shell}_complete" in done.stdout


def test_another_shell_is_wrong_usage(cli: Cli) -> None:
    done = cli("completion", "tcsh")
    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr


def test_bash_completes_with_it() -> None:
    script = """
        source <(iommufd completion bash)
        COMP_WORDS=(iommufd val) COMP_CWORD=1
        _iommufd_completion iommufd val iommufd
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert run("bash", script) == ["validate"]


def test_fish_completes_with_it() -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = "iommufd completion fish | source; complete --do-complete 'iommufd val'"
    assert [line.split("\t")[0] for line in run("fish", script)] == ["validate"]


def test_zsh_takes_the_script() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    script = "autoload -Uz compinit && compinit -D -u; source <(iommufd completion zsh); whence -w _iommufd_completion"
    assert run("zsh", script) == ["_iommufd_completion: function"]


def run(shell: str, script: str) -> list[str]:
    done = subprocess.run(
        [shell, "-c", script], env={**os.environ, "PATH": PATH}, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.splitlines()
