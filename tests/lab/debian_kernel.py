# SPDX-License-Identifier: MIT
"""Kernels as Debian's packages have them. Nothing is installed."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from iommufd_py.lab.apt import PrivateApt, system_archives
from iommufd_py.lab.progress import Silent


def unpacked(package: str, directory: Path, *, parts: Sequence[str]) -> Path:
    """Unpack *package* and those of its dependencies whose names begin with one of *parts*, and return the root."""
    apt = PrivateApt(directory / "apt", system_archives())
    apt.update()
    lacking = apt.lacking([package])
    wanted = {name: version for name, version in lacking.items() if name.startswith(tuple(parts))}
    for archive in apt.download(wanted, directory, Silent()):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(directory / "root")], check=True)
    return directory / "root"


def image_in(root: Path) -> Path:
    """Return the kernel's image, and make the directory in which a guest shows its modules."""
    (image,) = {path.resolve() for path in root.rglob("vmlinuz*") if path.is_file()}
    Path("/lib/modules").mkdir(exist_ok=True)  # a machine that never had a kernel of its own
    return image
