# SPDX-License-Identifier: MIT
"""Remove the texts that identify this machine and its users."""

import contextlib
import os
import pwd
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SHORTEST_SERIAL = 4
# Placeholders of firmware whose fields were never filled in. They identify nothing and are not removed.
_NO_SERIAL = re.compile(
    r"none|null|n/?a|default.*|unknown|not .*|to be filled.*|system .*|chassis .*|[0. -]*|x+|0?123456789", re.IGNORECASE
)
_NO_NAME = ("", "(none)", "localhost", "root")

_HEX = "[0-9a-fA-F]"
# The order matters: the next patterns do not match a text that is already replaced.
_PATTERNS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"(?<!\w){_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}(?!\w)", "[UUID]"),
        (rf"(?<!\w){_HEX}{{32}}(?!\w)", "[ID]"),
        (rf"(?<![\w:])(?:{_HEX}{{2}}:){{5}}{_HEX}{{2}}(?![\w:])", "[MAC address]"),
        (r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])", "[IP address]"),
        (rf"(?<![\w:])(?:{_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}(?![\w:])", "[IP address]"),
        (rf"(?<![\w:])(?:{_HEX}{{1,4}}:){{1,6}}(?::{_HEX}{{1,4}}){{1,6}}(?![\w:])", "[IP address]"),
        (r"(?<=SerialNumber: )\S+", "[serial number]"),
        (r"(?<=/dev/disk/by-id/)[^\s\"',]+", "[serial number]"),
        (r"(?<=/home/)[^/\s\"']+", "[user]"),
    )
)


@dataclass(frozen=True, slots=True)
class Private:
    """Texts that identify a machine or a person, each with its replacement.

    Attributes:
        values: replacement of each text, for example ``{"myhost": "[host name]"}``.
    """

    values: Mapping[str, str]

    def remove(self, text: str) -> str:
        """Replace these texts in *text*, and all addresses and identifiers that have a known form.

        Known forms are MAC and IP addresses, UUIDs, 128-bit identifiers, serial numbers of USB devices and disks, and
        names of home directories. PCI addresses stay, because a report without them is useless.
        """
        # Replace the longest first: a host name can be the beginning of another one.
        for value in sorted(self.values, key=len, reverse=True):
            whole = rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])"
            replacement = self.values[value]
            text = re.sub(whole, lambda _, new=replacement: new, text, flags=re.IGNORECASE)  # type: ignore[misc]
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def private_values(sysfs: Path = Path("/sys"), etc: Path = Path("/etc")) -> Private:
    """Return the texts that identify this machine: names of the host and of users, and serial numbers."""
    values = dict.fromkeys(_host_names(etc), "[host name]")
    values |= dict.fromkeys(_user_names(), "[user]")
    values |= dict.fromkeys(_serial_numbers(sysfs), "[serial number]")
    return Private(values)


def _host_names(etc: Path) -> Iterator[str]:
    names = [os.uname().nodename, *_lines([etc / "hostname", etc / "mailname"])]
    for name in names:
        for part in (name, name.partition(".")[0]):
            if part not in _NO_NAME:
                yield part


def _user_names() -> Iterator[str]:
    names = [os.environ.get(variable, "") for variable in ("SUDO_USER", "USER", "LOGNAME")]
    with contextlib.suppress(KeyError):  # In a container, a user can have a number and no name.
        names.append(pwd.getpwuid(os.getuid()).pw_name)
    return (name for name in names if name not in _NO_NAME)


def _serial_numbers(sysfs: Path) -> Iterator[str]:
    names = ("product_serial", "product_uuid", "board_serial", "board_asset_tag", "chassis_serial", "chassis_asset_tag")
    files = [sysfs / "class/dmi/id" / name for name in names]
    for pattern in (
        "class/block/*/device/serial",
        "class/block/*/device/wwid",
        "class/block/*/wwid",
        "class/nvme/*/serial",
    ):
        files += sysfs.glob(pattern)
    for line in _lines(files):
        if len(line) >= _SHORTEST_SERIAL and not _NO_SERIAL.fullmatch(line):
            yield line


def _lines(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            yield path.read_text(errors="replace").strip()
        except OSError:  # The file is missing, or only root may read it. Then no readable text can contain this value.
            continue
