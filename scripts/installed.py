# SPDX-License-Identifier: MIT
"""The installed packages that the tests need: they decide results like the files of the checkout."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

_SETUP = Path(__file__).with_name("setup")


def installed_packages() -> tuple[str, ...]:
    """Return the name and the version of each package that scripts/setup installs, with the packages that it needs.

    Others do not count: scripts/docs adds packages of its own, and a developer may do so.
    """
    extras = re.findall(r"-e '\.\[(.*?)\]'", _SETUP.read_text())[0].split(",")
    versions: dict[str, str] = {}
    seen = set()
    waiting = [("iommufd-py", frozenset(extras))]
    while waiting:
        name, wanted = one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        package = metadata.distribution(name)
        versions[package.name] = package.version
        for text in package.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                waiting.append((needed.name, frozenset(needed.extras)))
    # Our own version changes with each commit.
    del versions["iommufd-py"]
    return tuple(sorted(f"{name} {version}" for name, version in versions.items()))
