# SPDX-License-Identifier: MIT
"""Completion, in the three shells that scripts/setup installs."""

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.programs import SEARCH_PATH
from tests.waiting import patience

Cli = Callable[..., subprocess.CompletedProcess[str]]


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


def test_fish_completes_with_the_script() -> None:
    script = "iommufd completion fish | source; complete --do-complete 'iommufd val'"
    assert [line.split("\t")[0] for line in run("fish", script)] == ["validate"]


def test_zsh_completes_with_the_script() -> None:
    # A completion widget runs in an interactive shell only. Here two functions replace it, and print their arguments.
    script = """
        autoload -Uz compinit && compinit -D -u
        source <(iommufd completion zsh)
        _describe() { print -l -- $completions_with_descriptions }
        compadd() { print -l -- $completions }
        words=(iommufd val) CURRENT=2
        _iommufd_completion
    """
    assert [line.split(":")[0] for line in run("zsh", "-f", script)] == ["validate"]


def run(*command: str) -> list[str]:
    *shell, script = command
    done = subprocess.run(
        [*shell, "-c", script],
        env={**os.environ, "PATH": SEARCH_PATH},
        capture_output=True,
        text=True,
        timeout=patience(24),
        check=True,
    )
    return done.stdout.splitlines()
