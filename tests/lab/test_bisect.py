# SPDX-License-Identifier: MIT
"""`iommufd bisect` in a repository made from the lab's kernel source, with planted faults. It builds a few kernels."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iommufd_py.lab import kernel, source
from iommufd_py.lab.build import apply_patch
from iommufd_py.lab.progress import Silent
from tests.programs import IOMMUFD

SERIES = "7.3"
COMMITS = 20
FILE = "drivers/iommu/iommufd/pages.c"
# This line is in the function that maps existing pages into a new domain, so its loss breaks rule 2.
FLUSH = "\t\tif (flush_cache)\n\t\t\tbatch_flush_cache(&pfns.batch, area->pages,"
# This line is in the function that maps an area into the domains of its IOAS.
MAP = "\tmutex_lock(&pages->mutex);\n\tif (iopt_is_dmabuf(pages)) {\n\t\trc = iopt_dmabuf_track_all_domains(area"
BROKEN, NOT_BUILT, SLOWER = 7, 10, 15
# Some percent of the time of a map of 2M. On a busy machine their search does not decide.
DELAY = "\tudelay(20);\n"
# A native kernel needs nothing from these directories, except the files that Kconfig and make read everywhere.
LEFT_OUT = ("Documentation", "sound", "drivers/gpu", "drivers/media", "drivers/net", "drivers/scsi", "drivers/usb")
LEFT_OUT_OF_TOOLS = ("tools/perf", "tools/testing")
READ_BY_KBUILD = ("Kconfig", "Makefile", "Kbuild")
KEPT = ("drivers/net/loopback.c", "tools/testing/selftests/iommu/")  # Patches change the selftests.


def git(tree: Path, *arguments: str) -> str:
    names = ("-c", "user.name=A", "-c", "user.email=a@b.example", "-c", "core.compression=0", "-c", "gc.auto=0")
    done = subprocess.run(["git", "-C", tree, *names, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def copy_source(original: Path, tree: Path) -> None:
    """Hard-link the part of a kernel source from which a native kernel is built."""

    def ignore(directory: str, names: list[str]) -> list[str]:
        inside = os.path.relpath(directory, original)
        architecture = inside.split("/")[0:2]
        foreign = architecture[0] == "arch" and len(architecture) > 1 and architecture[1] not in ("um", "x86")
        if not foreign and not inside.startswith((*LEFT_OUT, *LEFT_OUT_OF_TOOLS)):
            return []
        return [
            name
            for name in names
            if not Path(directory, name).is_dir()
            and not name.startswith(READ_BY_KBUILD)
            and not f"{inside}/{name}".startswith(KEPT)
        ]

    shutil.copytree(original, tree, ignore=ignore, copy_function=os.link, symlinks=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The patched kernel, and 20 commits: the 7th breaks rule 2, the 10th does not compile, the 15th slows maps."""
    # The tree lies beside the source, because hard links need the same file system.
    original = source.obtain(SERIES, Silent()).path
    tree = original.parent / f".bisect-test-{os.getpid()}"
    try:
        copy_source(original, tree)
        for patch in kernel.patches_for("patched", SERIES):
            selected = tmp_path_factory.mktemp("patch") / patch.name
            selected.write_text(patch.read_text())
            apply_patch(selected, tree, "--forward", to="the copy")
        git(tree, "init", "-q")
        git(tree, "add", "--all", "--force")
        git(tree, "commit", "-q", "-m", "the series")
        good = (tree / FILE).read_text()
        assert good.count(FLUSH) == good.count(MAP) == 1
        for number in range(1, COMMITS + 1):
            text = good if number < BROKEN else good.replace(FLUSH, FLUSH.replace("flush_cache)", "!flush_cache)"))
            if number >= SLOWER:
                text = "#include <linux/delay.h>\n" + text.replace(MAP, DELAY + MAP)
            text += f"/* commit {number} */\n" + ("not C\n" if number == NOT_BUILT else "")
            (tree / FILE).unlink()
            (tree / FILE).write_text(text)
            git(tree, "commit", "-q", "-a", "-m", f"commit {number}")
        yield tree
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def bisect(tree: Path, good: str, *question: str) -> Any:
    """Search from *good* to HEAD, and return the document of the command."""
    command = [IOMMUFD, "bisect", "--source", str(tree), "--good", good, "--bad", "HEAD", *question, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    return json.loads(done.stdout)


def test_the_commit_that_broke_a_rule_is_found_natively(tree: Path) -> None:
    before = git(tree, "status", "--porcelain"), git(tree, "for-each-ref"), git(tree, "rev-parse", "HEAD")
    document = bisect(tree, f"HEAD~{COMMITS}", "--rule", "2")
    assert document["first_bad"] == git(tree, "rev-parse", f"HEAD~{COMMITS - BROKEN}")
    assert document["guest"] == "native"
    assert document["bad_side"]["evidence"].startswith("rule 2: violated in ")
    assert document["good_side"]["evidence"].startswith("rule 2: counts agree, ")
    assert document["good_side"]["commit"] == git(tree, "rev-parse", f"HEAD~{COMMITS - BROKEN + 1}")
    skipped = [trial for trial in document["trials"] if trial["verdict"] == "skip"]
    assert [trial["subject"] for trial in skipped] == [f"commit {NOT_BUILT}"]
    assert "the kernel does not build" in skipped[0]["evidence"]
    assert before == (git(tree, "status", "--porcelain"), git(tree, "for-each-ref"), git(tree, "rev-parse", "HEAD"))


def test_the_commit_that_slowed_maps_down_is_found(tree: Path) -> None:
    """Four commits before the slow one and five commits after it are searched, with times of this machine."""
    document = bisect(tree, f"HEAD~{COMMITS - NOT_BUILT - 1}", "--bench", "map 2M")
    assert document["first_bad"] == git(tree, "rev-parse", f"HEAD~{COMMITS - SLOWER}")
    assert document["guest"] == "native"
    assert document["bad_side"]["evidence"].startswith("ratio 1.")
