# SPDX-License-Identifier: MIT
"""`iommufd completion`: print the script by which a shell completes commands, options and device addresses."""

import click
from click.shell_completion import get_completion_class

from .commands import command


@command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which a SHELL completes commands, options and device addresses.

    \b
    Examples:
      iommufd completion bash > ~/.local/share/bash-completion/completions/iommufd
      iommufd completion zsh > ~/.zfunc/_iommufd
      iommufd completion fish > ~/.config/fish/completions/iommufd.fish
    """
    program = click.get_current_context().find_root()
    shell_class = get_completion_class(shell)
    assert shell_class is not None  # click supports these shells.
    click.echo(shell_class(program.command, {}, "iommufd", "_IOMMUFD_COMPLETE").source())
