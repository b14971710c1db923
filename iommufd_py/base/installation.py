# SPDX-License-Identifier: MIT
"""The command that adds packages to this installation of the tool."""

from pathlib import Path

# Only packages of Debian install files there.
_OF_DEBIAN = Path("/usr/lib/python3/dist-packages")
_DEBIAN_PACKAGES = {"report": ("python3-matplotlib", "python3-numpy", "python3-scipy")}


def command_for_extra(extra: str) -> str:
    """Return the command that installs the packages of an extra of this tool.

    On Debian, pip adds nothing to the Python that the Debian package uses (PEP 668). Debian 13 lacks a package of each
    other extra, or has a version that is too old: their remedy is a second installation of the tool.
    """
    if not Path(__file__).is_relative_to(_OF_DEBIAN):
        return f"pip install 'iommufd-py[{extra}]'"
    packages = _DEBIAN_PACKAGES.get(extra)
    if packages is not None:
        return f"sudo apt-get install {' '.join(packages)}"
    return f"sudo apt-get install pipx && pipx install 'iommufd-py[{extra}]'"
