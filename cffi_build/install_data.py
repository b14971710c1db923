# SPDX-License-Identifier: MIT
"""Let setuptools put the man pages and the completion scripts into a wheel.

The built package generates these files, so the tree holds no generated file. An editable install has none of them.
"""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Command
from setuptools.command.install import install as setuptools_install


class install(setuptools_install):
    """`install` that runs `install_data` though pyproject.toml lists no data files."""

    sub_commands = [*setuptools_install.sub_commands, ("install_data", None)]  # noqa: RUF012 - as in the base class


class install_data(Command):
    """`install_data` that writes its files by running the package that was built."""

    user_options = []  # noqa: RUF012 - as in the base class

    def initialize_options(self) -> None:
        """Declare the attributes, as setuptools requires."""
        self.install_dir: str | None = None
        self.built: str | None = None
        self.outputs: list[str] = []

    def finalize_options(self) -> None:
        """Take the directories from the commands that run before."""
        self.set_undefined_options("install", ("install_data", "install_dir"), ("build_lib", "built"))

    def run(self) -> None:
        """Write the files, in a process that imports the package from the build directory."""
        assert self.install_dir and self.built
        script = Path(__file__).with_name("shared_files.py")
        search = [str(Path(self.built).resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
        subprocess.run(
            [sys.executable, str(script), self.distribution.get_version(), self.install_dir],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
            check=True,
        )
        self.outputs = [str(path) for path in Path(self.install_dir, "share").rglob("*") if path.is_file()]

    def get_outputs(self) -> list[str]:
        """Return the paths of the installed files."""
        return self.outputs
