# SPDX-License-Identifier: MIT
"""`iommufd report-bug`: write one archive with the facts that a maintainer needs and without data that identifies the
machine."""

import importlib.metadata
import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import STDOUT, cannot_write, read_file, write_file
from iommufd_py.base.shown import printable, valid_utf8
from iommufd_py.base.units import counted
from iommufd_py.base.version import tool_version
from iommufd_py.host.kmsg import KernelLog
from iommufd_py.host.private import private_values
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.paths import runs_dir

from .commands import command
from .files import OUTPUT_FILE
from .info import info_document
from .output import note

_PACKAGES = ("cffi", "click", "jsonschema", "pyudev", "rich", "numpy", "scipy", "matplotlib", "pytest", "virtme-ng")

# Removing private data from more text takes minutes, and no mailing list accepts so large a mail.
_MOST_RESULT_BYTES = 32 << 20

_CONTENTS = """\
This archive was made by `iommufd report-bug`. Nothing has been sent anywhere: read it, then add it to your report.

Removed: names of the host and of users, passwords on the kernel's command line, serial numbers, UUIDs, MAC, IP and
mail addresses. Look for private data that a program cannot recognise: labels, file names, names of other hosts,
messages of other drivers in the kernel log.

"""


@command("report-bug")
@click.argument(
    "results", nargs=-1, metavar="[RESULT]...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--output",
    type=OUTPUT_FILE,
    help="Archive to write; - is stdout.  [default: iommufd-bug-TIME.tar.gz in this directory]",
)
def report_bug(results: tuple[Path, ...], output: Path | None) -> None:
    """Write an archive for a bug report: the output of `iommufd info`, versions, kernel logs, and each file RESULT.

    The archive has the log of the running kernel, which only root may read, and the log of the lab's last guest. The
    command removes the names of the host and of users, passwords on the kernel's command line, serial numbers, UUIDs,
    MAC, IP and mail addresses. It sends nothing: read the archive, then add it to your report.

    \b
    Examples:
      sudo iommufd report-bug
      sudo iommufd report-bug --output bug.tar.gz run.json rules.json
    """
    path = output or Path(f"iommufd-bug-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz")
    private = private_values()
    files = {private.remove(name): valid_utf8(private.remove(text)) for name, text in _files(results)}
    contents = _CONTENTS + "".join(f"{name}: {counted(len(text.encode()), 'byte')}\n" for name, text in files.items())
    archive = _archive({"CONTENTS": contents, **files})
    if path == STDOUT:
        write_file(path, archive)
        return
    try:
        # The archive never replaces a file, and only its owner can read it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        # Nobody may remove /dev/null for an archive.
        remedy = "remove it, or choose" if path.is_file() else "choose"
        raise ToolError(f"{path} exists: {remedy} another file with --output") from None
    except OSError as failure:
        raise cannot_write(path, failure) from None
    try:
        with open(descriptor, "wb") as file:
            file.write(archive)
    except BaseException as failure:
        path.unlink(missing_ok=True)  # A full disk leaves no part of an archive.
        if not isinstance(failure, OSError):
            raise
        raise cannot_write(path, failure) from None
    note(contents.rstrip())
    click.echo(path)


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            content = text.encode()
            member = tarfile.TarInfo(f"iommufd-bug/{name}")
            member.size, member.mtime = len(content), int(time.time())
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _files(results: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of the archive."""
    yield "info.json", json.dumps(info_document(), indent=2) + "\n"
    yield "versions.json", json.dumps(_versions(), indent=2) + "\n"
    try:
        with KernelLog(whole=True) as log:
            yield "kernel.log", log.text() + "\n"
    except OSError as failure:
        yield "kernel.log", f"cannot be read: {failure}; root may read it\n"
    guest_log = _last_guest_log()
    if guest_log:
        yield "lab-kernel.log", guest_log
    for number, result in enumerate(results, 1):
        yield (
            f"results/{number}-{printable(result.name)}",
            read_file(result, _MOST_RESULT_BYTES).decode(errors="replace"),
        )


def _last_guest_log() -> str:
    """Return the log of the lab's last guest, or the reason why it cannot be read; nothing if there was no guest.

    A user of a damaged or foreign cache needs a report, too.
    """
    try:
        # A pipe in place of a log would wait for its writer.
        logs = [path for path in runs_dir().glob("*/kernel.log") if path.is_file()]
        return max(logs, key=lambda path: path.stat().st_mtime).read_text(errors="replace") if logs else ""
    except (LabError, OSError) as failure:
        return f"cannot be read: {failure}\n"


def _versions() -> dict[str, str]:
    found = {"iommufd-py": tool_version(), "python": sys.version, "libc": " ".join(platform.libc_ver())}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
