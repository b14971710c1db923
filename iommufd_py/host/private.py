# SPDX-License-Identifier: MIT
"""Remove the texts that identify this machine and its users."""

import contextlib
import json
import os
import pwd
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.sysfs import entries, kernel_text

_SHORTEST_SERIAL = 4
# Placeholders of firmware whose fields were never filled in. They identify nothing and are not removed.
_NO_SERIAL = re.compile(
    r"none|null|n/?a|default.*|unknown|not .*|to be filled.*|system .*|chassis .*|[0. -]*|x+|0?123456789", re.IGNORECASE
)
# Names that many machines and users have. They identify nobody, and some are ordinary words.
_NO_NAME = ("", "(none)", "localhost", "localhost.localdomain", "root", "debian", "fedora", "ubuntu", "user", "test")
# The user numbers that /etc/login.defs gives to people.
_PEOPLE = range(1000, 60001)

_HEX = "[0-9a-fA-F]"
# An underscore ends a word: udev joins names and addresses with it.
_BEGIN, _END = "(?<![0-9A-Za-z])", "(?![0-9A-Za-z])"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
# systemd names units like mail addresses: getty@tty1.service.
_UNIT = r"(?:service|socket|mount|target|slice|timer|path|device|scope|swap)"
# A key, such as `serial_number=` or `"serial": "`, stays; its value goes.
_IS = r"[\"']?\s*[:=]\s*[\"']?"
_SERIAL = rf"(?:serial[ _-]?(?:number|no\.?)|s/n|(?:asset|service)[ _-]tag){_IS}"
_HARDWARE = r"(?:\w{1,32}_)?(?:guid|wwid|wwn|wwpn|wwnn|sas_addr(?:ess)?|logical id)[\s\"':=(-]+"
# Each repetition before a fixed text has a limit: without one, the time grows with the square of a long line.
# The order matters: the next patterns do not match a text that is already replaced.
_PATTERNS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(Linux version \S+ )\([^()@\s]+@[^()\s]+\)", r"\1([user]@[host name])"),
        (rf"{_BEGIN}[\w.+-]{{1,64}}@(?![\w.-]+\.{_UNIT}\b)\w[\w-]*(?:\.[\w-]+)+", "[mail address]"),
        (rf"(?i:\b(host_?name{_IS}|hostname set to <|nfsroot=))(?!\[)[^\s\"',;:<>]+", r"\1[host name]"),
        (r"(\bip=(?:[^:\s\"]{0,64}:){4})[^:\s\"]+", r"\1[host name]"),
        (r"(\b(?:acct|AUID|UID)=\")[^\"]+", r"\1[user]"),
        (r"((?:/home|/media|/Users)/)[^/\s\"',:]+", r"\1[user]"),
        (rf"\b(?i:({_SERIAL}))[^\s\"',;][^\"\n,;]*", r"\1[serial number]"),
        (rf"(\b[Ss]erial(?:=|\"{_IS}))[^\s\"',;]+", r"\1[serial number]"),
        (r"(/dev/disk/by-[a-z]+/)[^\s\"',]+", r"\1[serial number]"),
        (rf"{_BEGIN}[in]qn\.\d{{4}}-\d\d\.[^\s\"',]+", "[ID]"),
        (rf"{_BEGIN}{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}{_END}", "[UUID]"),
        (r"(UUID=)[\w-]+", r"\1[UUID]"),
        (rf"{_BEGIN}\w{{6}}-(?:\w{{4}}-){{5}}\w{{6}}{_END}", "[UUID]"),  # LVM's form
        (rf"((?:naa|eui)\.)(?:0x)?{_HEX}{{16,}}", r"\1[ID]"),
        (rf"\b(?i:({_HARDWARE}))(?:0x)?{_HEX}[\da-fA-F:]{{7,}}", r"\1[ID]"),
        (rf"((?:LVM|CRYPT)-)[0-9A-Za-z]{{32,}}{_END}", r"\1[ID]"),
        (rf"{_BEGIN}{_HEX}{{32}}{_END}", "[ID]"),
        (rf"{_BEGIN}((?:en|wl|ww|ib)x){_HEX}{{12}}{_END}", r"\1[MAC address]"),
        (rf"(?<![0-9A-Za-z.])(?:{_BYTE}\.){{3}}{_BYTE}(?![0-9A-Za-z]|\.\d)", "[IP address]"),
        (rf"{_BEGIN}(?:{_HEX}{{2}}:){{8,}}{_HEX}{{2}}{_END}", "[MAC address]"),
        (rf"{_BEGIN}(?:{_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}{_END}", "[IP address]"),
        (rf"{_BEGIN}(?:{_HEX}{{1,4}}:){{1,6}}(?::{_HEX}{{1,4}}){{1,6}}{_END}", "[IP address]"),
        (rf"{_BEGIN}(?:{_HEX}{{1,4}}:){{2,7}}:{_END}", "[IP address]"),
        (rf"{_BEGIN}{_HEX}{{2}}([:-])(?:{_HEX}{{2}}\1){{4,}}{_HEX}{{2}}{_END}", "[MAC address]"),
    )
)


_KEY = r"[\w.-]{0,40}(?:password|passwd|passphrase|secret|token|api[_-]?key)"
_SECRETS = (
    (re.compile(rf"(?i:\b({_KEY}=))(?!\[)[^\s\"']+"), r"\1[secret]"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://)[^/\s\"'@\[]{1,200}@"), r"\1[secret]@"),
)


def without_secrets_of_boot(text: str) -> str:
    """Remove passwords and the like from the kernel's command line, or from a text that contains it.

    Installers and initial RAM disks read them from there: ``rd.iscsi.password=``, ``inst.ks=https://user:password@...``.
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


@dataclass(frozen=True, slots=True)
class Private:
    """Texts that identify a machine or a person, each with its replacement.

    Attributes:
        values: replacement of each text, for example ``{"myhost": "[host name]"}``.
    """

    values: Mapping[str, str]

    def remove(self, text: str) -> str:
        """Replace these texts in *text*, and all addresses and identifiers that have a known form.

        Known forms are MAC, IP and mail addresses, UUIDs, 128-bit identifiers, names of home directories, and the value
        behind a key such as ``SerialNumber:`` or ``hostname=``. PCI addresses stay, because a report without them is
        useless.
        """
        # Replace the longest first: a host name can be the beginning of another one.
        for value in sorted(self.values, key=len, reverse=True):
            # JSON writes some characters in another form.
            forms = "|".join(map(re.escape, {value, json.dumps(value)[1:-1]}))
            whole = rf"{_BEGIN}(?:{forms}){_END}"
            replacement = self.values[value]
            text = re.sub(whole, lambda _, new=replacement: new, text, flags=re.IGNORECASE)  # type: ignore[misc]
        text = without_secrets_of_boot(text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def private_values(sysfs: Path = Path("/sys"), etc: Path = Path("/etc")) -> Private:
    """Return the texts that identify this machine: names of the host and of users, and serial numbers."""
    values = dict.fromkeys(_host_names(etc), "[host name]")
    values |= dict.fromkeys(_domains(etc, values), "[domain]")
    values |= dict.fromkeys(_user_names(etc), "[user]")
    values |= dict.fromkeys(_serial_numbers(sysfs), "[serial number]")
    return Private(values)


def _host_names(etc: Path) -> Iterator[str]:
    names = [os.uname().nodename, *_texts([etc / "hostname", etc / "mailname"])]
    for line in _lines(etc / "hosts"):
        # "ip6-localhost" and the like are the same on all machines.
        names += [name for name in line.partition("#")[0].split()[1:] if not name.startswith(("ip6-", "localhost"))]
    for name in names:
        for part in (name, name.partition(".")[0]):
            if part not in _NO_NAME:
                yield part


def _domains(etc: Path, host_names: Iterable[str]) -> Iterator[str]:
    names = [name.partition(".")[2] for name in host_names]
    for line in _lines(etc / "resolv.conf"):
        if line.startswith(("search", "domain")):
            names += line.split()[1:]
    # A domain without a dot, such as "home", is also an ordinary word.
    return (name for name in names if "." in name.strip("."))


def _user_names(etc: Path) -> Iterator[str]:
    names = [os.environ.get(variable, "") for variable in ("SUDO_USER", "USER", "LOGNAME")]
    for line in _lines(etc / "passwd"):
        name, _, number, _, full_name, *_ = [*line.split(":"), *[""] * 5]
        if number.isdecimal() and int(number) in _PEOPLE:
            names += [name, full_name.partition(",")[0]]
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
        files += entries(sysfs, pattern)
    for text in _texts(files):
        if len(text) >= _SHORTEST_SERIAL and not _NO_SERIAL.fullmatch(text):
            yield text


def _lines(path: Path) -> list[str]:
    return "".join(_texts([path])).splitlines()


def _texts(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            yield kernel_text(path).strip()
        except OSError:  # The file is missing, or only root may read it. A user's report needs no value of such a file.
            continue
