# SPDX-License-Identifier: MIT
"""A private apt: it fetches packages of any suite from the machine's own mirror and checks their signatures.

The machine's apt set-up stays untouched, and no root is needed. Lists and downloads live under the lab's cache. The
keys are those of the machine.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from iommufd_py.lab.errors import LabError
from iommufd_py.lab.process import run_tool, start, stop
from iommufd_py.lab.progress import Progress

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Suites of the main archive. Security updates and third parties have archives of their own.
_MAIN_SUITES = re.compile(r"(?:old)*stable|testing|unstable|sid|bookworm|trixie|forky|duke")
_DEBIAN_SUITES = re.compile(rf"(?:{_MAIN_SUITES.pattern})(?:-security|-updates|-backports)?")


@dataclass(frozen=True, slots=True)
class Archive:
    """One suite of one mirror, as an apt source names it. It holds binary packages or source packages."""

    uri: str
    suite: str
    signed_by: str = _KEYRING
    kind: Literal["deb", "deb-src"] = "deb"

    def line(self) -> str:
        """Return the archive as one line of a sources.list(5)."""
        return f"{self.kind} [signed-by={self.signed_by}] {self.uri} {self.suite} main"


def parse_one_line(text: str) -> Iterator[Archive]:
    """Yield the binary archives with the component main in *text*, a ``sources.list``."""
    for line in text.splitlines():
        match = re.match(
            r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)", line
        )
        if match is None or "main" not in match["components"].split():
            continue
        options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
        yield Archive(match["uri"], match["suite"], options.get("signed-by") or _KEYRING)


def parse_deb822(text: str) -> Iterator[Archive]:
    """Yield the binary archives with the component main in *text*, a ``*.sources`` file."""
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", text):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in unfolded.splitlines())
        }
        if fields.get("enabled", "yes").lower() in ("no", "false", "off", "0"):
            continue
        if "deb" not in fields.get("types", "").split() or "main" not in fields.get("components", "").split():
            continue
        signed_by = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                # Signed-By may hold the key itself. The distribution's keyring has that key too.
                yield Archive(uri, suite, signed_by if signed_by.startswith("/") else _KEYRING)


def system_archives(directory: Path = Path("/etc/apt")) -> list[Archive]:
    """Return the archives of Debian itself among the machine's apt sources."""
    found: list[Archive] = []
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))):
        if path.suffix in (".list", ".sources") and path.is_file():
            parse = parse_one_line if path.suffix == ".list" else parse_deb822
            found += parse(path.read_text(encoding="utf-8", errors="replace"))
    return [archive for archive in dict.fromkeys(found) if _DEBIAN_SUITES.fullmatch(archive.suite)]


def mirror(archives: list[Archive], suite: str) -> Archive | None:
    """Return *suite* on the mirror that the main archive of *archives* comes from."""
    main = next((archive for archive in archives if _MAIN_SUITES.fullmatch(archive.suite)), None)
    return None if main is None else replace(main, suite=suite)


class PrivateApt:
    """apt over *archives* only, with all its state below *directory*."""

    def __init__(self, directory: Path, archives: list[Archive]) -> None:
        self._directory = directory
        for name in ("state/lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "sources.list").write_text(
            "".join(f"{archive.line()}\n" for archive in archives), encoding="utf-8"
        )
        (directory / "apt.conf").write_text(self._configuration(), encoding="utf-8")

    def _configuration(self) -> str:
        directory = self._directory
        lines = [
            f'Dir::Etc::SourceList "{directory}/sources.list";',
            f'Dir::State "{directory}/state";',
            f'Dir::Cache "{directory}/cache";',
            # Ignore /etc/apt: its hooks, pins and indexes are for the real system. Only its network settings are used,
            # below.
            *(f'Dir::Etc::{name} "-";' for name in ("SourceParts", "Main", "Parts", "Preferences", "PreferencesParts")),
            'Acquire::Languages "none";',
            'Acquire::PDiffs "false";',
            'APT::Update::Error-Mode "any";',
        ]
        if os.geteuid() == 0:
            # The sandbox user may not enter root's cache directory.
            lines.append('APT::Sandbox::User "root";')
        dump = run_tool(["apt-config", "dump", "Acquire"], "cannot read apt's configuration")
        lines += [line for line in dump.splitlines() if re.match(r"Acquire::(?:https?|Force|Retries)\b", line)]
        return "\n".join(lines) + "\n"

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"APT_CONFIG": str(self._directory / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def update(self) -> None:
        """Fetch the package lists.

        Raises:
            LabError: a list cannot be fetched, or the keys of this machine do not verify its signature.
        """
        run_tool(["apt-get", "update", "-q"], "apt-get update", env=self._environment)

    def newest(self, package: str) -> str | None:
        """Return the newest version of *package*, or None where there is none."""
        output = run_tool(["apt-cache", "madison", package], "apt-cache", env=self._environment)
        versions = [line.split("|")[1].strip() for line in output.splitlines() if line.count("|") >= 2]
        return versions[0] if versions else None

    def lacking(self, packages: Sequence[str]) -> dict[str, str]:
        """Return those of *packages* and their dependencies that this machine lacks, with the version to download.

        Raises:
            LabError: the archives lack one of them, or it conflicts with an installed package.
        """
        argv = ["apt-get", "install", "--simulate", "-q", "--no-install-recommends", *packages]
        output = run_tool(argv, f"cannot find {', '.join(packages)}", env=self._environment)
        return dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", output, re.MULTILINE))

    def download(self, packages: Mapping[str, str], directory: Path, progress: Progress) -> list[Path]:
        """Download the given versions of *packages* into *directory* and return the files. apt checks them against the
        signed lists.
        """
        wanted = [f"{name}={version}" for name, version in packages.items()]
        self._fetch(["apt-get", "download", "-q", *wanted], directory, progress)
        files = [file for name in packages for file in directory.glob(f"{name}_*.deb")]
        if len(files) != len(packages):
            raise LabError(f"cannot download {' '.join(wanted)}: apt-get left {len(files)} files of {len(packages)}")
        return files

    def download_source(self, package: str, version: str, directory: Path, progress: Progress) -> list[Path]:
        """Download the source package *package* into *directory* and return its files. apt checks them as in
        download().
        """
        argv = ["apt-get", "source", "--download-only", "-q", f"{package}={version}"]
        self._fetch(argv, directory, progress)
        return sorted(directory.glob(f"{package}_*"))

    def _fetch(self, argv: Sequence[str], directory: Path, progress: Progress) -> None:
        reading, writing = os.pipe()
        child = start(
            [*argv, "-o", f"APT::Status-Fd={writing}"],
            cwd=directory,
            env=self._environment,
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.close(writing)
        try:
            with open(reading, encoding="utf-8", errors="replace") as status:
                for line in status:
                    if line.startswith("dlstatus:"):
                        progress.advance(int(float(line.split(":")[2])))
            errors = child.stderr.read().decode(errors="replace").strip() if child.stderr else ""
            child.wait()
        finally:
            stop(child, grace=5)
        if child.returncode != 0:
            raise LabError(f"cannot download {argv[-1]}: {(errors or 'apt-get failed').splitlines()[-1]}")
