# SPDX-License-Identifier: MIT
"""The cache, the choice of a kernel and the build. A source tree with one Makefile replaces the kernel's."""

import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.lab import build, cache, config, kernel, paths, source
from iommufd_py.lab.apt import Archive
from iommufd_py.lab.cache import Recipe
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.errors import LabError, NoSourceError
from iommufd_py.lab.progress import Silent
from iommufd_py.lab.runs import KEPT_RUNS, new_run_directory
from iommufd_py.lab.source import SourceTree
from tests.waiting import DEFAULT_SIGNALS, patience, wait_until

pytestmark = pytest.mark.usefixtures("empty_cache")

# A Makefile that leaves the files of a kernel build within a second, and can be slow or fail.
MAKEFILE = """
VERSION = 7
PATCHLEVEL = 3
allnoconfig:
\t@mkdir -p $(O)/include/config $(O)/arch/x86/boot
\t@cp $$KCONFIG_ALLCONFIG $(O)/.config
\t@echo 7.3.4-test > $(O)/include/config/kernel.release
bzImage:
\t@echo '  CC      a.o'
\t@echo half > $(O)/arch/x86/boot/bzImage
\t@cat $(CURDIR)/hook | sh
\t@cat $(CURDIR)/a.c > $(O)/arch/x86/boot/bzImage
\t@touch $(O)/System.map $(O)/vmlinux
\t@echo built >> $(O)/count
"""

RECIPE = Recipe("stock", "7.3", "linux-source-7.3 1", cache.config_digest(Configuration()), "", "gcc")
DEBUG = replace(RECIPE, config=cache.config_digest(Configuration(debug=True)))


@pytest.fixture
def tree(tmp_path: Path) -> SourceTree:
    path = tmp_path / "linux"
    path.mkdir()
    (path / "Makefile").write_text(MAKEFILE)
    (path / "Kbuild").touch()
    (path / "hook").touch()
    (path / "a.c").write_text("one\n")
    return SourceTree(path, "7.3", "linux-source-7.3 1")


def publish(tmp_path: Path, recipe: Recipe) -> cache.Kernel:
    image = tmp_path / "image"
    image.write_bytes(b"kernel")
    return cache.publish(recipe, {"bzImage": image}, release="7.3.4", built_at=recipe.source)


PATCH = b"""From 0123 Mon Sep 17 00:00:00 2001
Subject: [PATCH] Say two

Two is more than one.
---
 a.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/a.c b/a.c
index 283ab37..96cf9af 100644
--- a/a.c
+++ b/a.c
@@ -1 +1 @@
-one
+two
"""
BARE = b"A mistake.\n\n" + PATCH[PATCH.index(b"--- a/a.c") :]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"From 0123", b"From 4567"),
        (b"Say two", b"Say two, not one"),
        (b"more than one", b"more\nthan one"),
        (b"2 +-", b"12 ++++--"),
        (b"96cf9af", b"3a0e00b"),
    ],
)
def test_a_change_of_a_message_does_not_change_the_digest_of_patches(old: bytes, new: bytes) -> None:
    assert old in PATCH
    assert cache.patches_digest(PATCH.replace(old, new)) == cache.patches_digest(PATCH)
    assert cache.patches_digest(BARE.replace(b"A mistake", b"An error")) == cache.patches_digest(BARE)


@pytest.mark.parametrize("patch", [PATCH, BARE])
@pytest.mark.parametrize(
    ("old", "new"),
    [(b"+two\n", b"+two\n+three\n"), (b"+two", b"+index 2"), (b"-one", b"-One"), (b"+++ b/a.c", b"+++ b/b.c")],
)
def test_a_change_of_a_file_changes_the_digest_of_patches(patch: bytes, old: bytes, new: bytes) -> None:
    assert old in patch
    assert cache.patches_digest(patch.replace(old, new)) != cache.patches_digest(patch)


def test_the_order_of_patches_and_their_absence_are_in_the_digest() -> None:
    assert cache.patches_digest(PATCH, BARE.replace(b"two", b"six")) != cache.patches_digest(
        BARE.replace(b"two", b"six"), PATCH
    )
    assert cache.patches_digest() == ""


@given(st.data())
def test_a_change_of_any_ingredient_changes_the_key(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["series", "source", "config", "patches", "compiler", "arch"]))
    value = data.draw(st.text().filter(lambda text: text != getattr(RECIPE, name)))
    assert replace(RECIPE, **{name: value}).key != RECIPE.key


def test_equal_inputs_keep_their_key() -> None:
    """If a key changed for equal inputs, every user would build every kernel again."""
    assert Recipe("patched", "7.3", "linux-source-7.3 1", "c0ffee", "beef", "gcc 12").key == "fb20bbede910f1a5"


def test_a_published_kernel_is_found_with_its_whole_record(tmp_path: Path) -> None:
    published = publish(tmp_path, RECIPE)
    assert cache.find(RECIPE) == published
    assert cache.kernels() == [published]
    assert published.image.read_bytes() == b"kernel"
    assert cache.find(replace(RECIPE, compiler="another")) is None


def test_the_newest_series_is_chosen_and_never_a_kernel_of_another_configuration(tmp_path: Path) -> None:
    assert kernel.cached_kernel("stock") is None
    publish(tmp_path, replace(RECIPE, config="old"))
    assert kernel.cached_kernel("stock") is None
    publish(tmp_path, replace(RECIPE, series="6.12", source="linux-source-6.12 9"))
    newest = publish(tmp_path, RECIPE)
    publish(tmp_path, replace(RECIPE, source="/home/me/linux 0123"))
    assert kernel.cached_kernel("stock") == newest
    chosen = kernel.cached_kernel("stock", "6.12")
    assert chosen is not None
    assert chosen.recipe.series == "6.12"
    assert kernel.cached_kernel("patched") is None


def test_patched_is_of_the_series_that_stock_is_of(
    tmp_path: Path, tree: SourceTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, replace(RECIPE, source="linux-source-7.3 1"))
    older = replace(RECIPE, variant="patched", series="6.12", source="linux-source-6.12 1")
    publish(tmp_path, replace(older, patches=kernel._digest(kernel.patches_for("patched", "6.12"))))
    monkeypatch.setattr(source, "obtain", lambda series, progress: replace(tree, series=series))
    with pytest.raises(LabError, match=r"0001-.* does not apply to linux"):
        kernel.build_kernel("patched", Silent())
    assert kernel.cached_kernel("patched") is not None


def test_a_series_without_patches_says_so() -> None:
    with pytest.raises(LabError, match=r"no patches for 5\.10; choose"):
        kernel.patches_for("patched", "5.10")
    with pytest.raises(LabError, match=r"no patches for 5\.10 as User-Mode Linux"):
        kernel.patches_for("stock", "5.10", "um")


@pytest.mark.parametrize("series", ["7.3", "7.2"])
def test_user_mode_linux_differs_from_stock_by_one_patch(series: str) -> None:
    (stock,) = kernel.patches_for("stock", series, "um")
    for variant in ("patched", "patched-refined"):
        assert kernel.patches_for(variant, series, "um")[:-1] == [stock, *kernel.patches_for(variant, series)]


@pytest.mark.parametrize("series", source.SERIES)
def test_stock_is_without_patches_and_the_others_have_folders_of_them_in_order(series: str) -> None:
    assert kernel.patches_for("stock", series) == []
    patched = kernel.patches_for("patched", series)
    refined = kernel.patches_for("patched-refined", series)
    assert refined[: len(patched)] == patched
    folders = [(folder.name, list(found)) for folder, found in groupby(refined, lambda patch: patch.parent)]
    assert [name for name, _ in folders] == ["fixes", series, "refined"]
    for _, found in folders:
        assert [patch.name[:4] for patch in found] == [f"{number:04}" for number in range(1, len(found) + 1)]
    assert len(patched) >= 12


def test_a_debug_kernel_is_never_taken_for_the_other(tmp_path: Path) -> None:
    debug = publish(tmp_path, DEBUG)
    assert debug.name == "stock-debug"
    assert kernel.cached_kernel("stock") is None
    assert kernel.cached_kernel("stock", configuration=Configuration(debug=True)) == debug
    assert [one.recipe.configuration.debug for one in cache.kernels()] == [True]


def test_a_path_is_taken_as_it_is_and_an_unknown_name_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(bytes(0x202) + b"HdrS")
    assert kernel.image(str(image), Silent()) == image
    with pytest.raises(LabError, match="is not a User-Mode Linux"):
        kernel.image(str(image), Silent(), Configuration("um"))
    with pytest.raises(LabError, match="no kernel nonsense: give stock, patched, patched-refined, or the path"):
        kernel.image("nonsense", Silent())


def test_an_image_whose_read_fails_is_named() -> None:
    with pytest.raises(LabError, match="the kernel /proc/self/mem cannot be read: Input/output error"):
        kernel.image("/proc/self/mem", Silent())


def test_a_build_is_published_and_the_source_is_not_written_to(tree: SourceTree) -> None:
    before = sorted(tree.path.rglob("*"))
    made = build.build(RECIPE, tree, [], Silent())
    assert made.image.read_text() == "one\n"
    assert made.release == "7.3.4-test"
    assert sorted(tree.path.rglob("*")) == before
    assert build.build(RECIPE, tree, [], Silent()) == made


def test_a_patched_build_starts_from_the_objects_of_stock(tree: SourceTree, tmp_path: Path) -> None:
    patch = tmp_path / "0001.patch"
    patch.write_text("--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-one\n+two\n")
    build.build(RECIPE, tree, [], Silent())
    made = build.build(replace(RECIPE, variant="patched", patches="p"), tree, [patch], Silent())
    assert made.image.read_text() == "two\n"
    assert (tree.path / "a.c").read_text() == "one\n"
    (count,) = paths.work_dir().glob("build/*/patched-p/obj/count")
    assert count.read_text() == "built\nbuilt\n"


def test_changes_are_built_on_the_objects_of_what_they_change(tree: SourceTree, tmp_path: Path) -> None:
    series, two, three = (tmp_path / name for name in ("series.patch", "two.patch", "three.patch"))
    series.write_text("--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-one\n+one and a half\n")
    for patch in (two, three):
        patch.write_text(f"--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-one and a half\n+{patch.stem}\n")
    wrong = tmp_path / "wrong.patch"
    wrong.write_text(two.read_text() + "--- a/hook\n+++ b/hook\n@@ -1 +1 @@\n-not there\n+two\n")
    patched = replace(RECIPE, variant="patched", patches="p")
    build.build(patched, tree, [series], Silent())
    made = []
    for change in (two, three):
        made.append(build.compile_changed(patched, tree, [series], change, Silent()))
        with pytest.raises(LabError, match=r"wrong\.patch does not apply to the patched kernel"):
            build.compile_changed(patched, tree, [series], wrong, Silent())
    assert [kernel.image.read_text() for kernel in made] == ["two\n", "three\n"]
    assert cache.find(patched) not in made
    counts = {path.parts[-3]: path.read_text() for path in paths.work_dir().glob("build/*/*/obj/count")}
    assert counts == {"patched-p": "built\n", "changed-p": "built\n" * 3}


@pytest.mark.slow
def test_configurations_are_built_apart(tree: SourceTree, tmp_path: Path) -> None:
    patch = tmp_path / "0001.patch"
    patch.write_text("--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-one\n+two\n")
    patched = replace(RECIPE, variant="patched", patches="p")
    for recipe, patches in ((RECIPE, []), (patched, [patch]), (DEBUG, [])):
        build.build(recipe, tree, patches, Silent())
    build.build(replace(DEBUG, variant="patched", patches="p"), tree, [patch], Silent())
    build.build(replace(DEBUG, variant="patched", patches="q"), tree, [patch], Silent())
    build.build(replace(patched, variant="patched-refined", patches="r"), tree, [patch], Silent())
    build.build(replace(patched, patches="s"), tree, [patch], Silent())
    counts = {path.parts[-3]: path.read_text() for path in paths.work_dir().glob("build/*/*/obj/count")}
    assert counts == {
        "stock": "built\n",
        "patched-s": "built\n" * 2,
        "patched-refined-r": "built\n" * 2,
        "debug-stock": "built\n",
        "debug-patched-q": "built\n" * 2,
    }
    (config,) = paths.work_dir().glob("build/*/debug-stock/obj/.config")
    assert config.read_text() == Configuration(debug=True).fragment


def test_a_configuration_is_known_by_its_symbols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    fragment = tmp_path / "vtd.config"

    def name(text: str) -> str:
        fragment.write_text(text)
        return cache.config_digest(Configuration())

    assert name("# Why\nCONFIG_A=y\nCONFIG_B=n\n") == name("CONFIG_B=n\n\nCONFIG_A=y\n")
    assert len({name("CONFIG_A=y\n"), name("CONFIG_A=m\n"), name("CONFIG_B=y\n"), name("")}) == 4


@pytest.mark.slow
def test_a_source_that_is_not_to_be_had_is_told_from_other_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "system_archives", lambda: [Archive("file:/nonexistent", "sid")])
    with pytest.raises(NoSourceError, match=r"linux-source-7\.2 cannot be fetched"):
        source.obtain("7.2", Silent())
    with pytest.raises(LabError) as caught:
        source.obtain(None, Silent())
    assert not isinstance(caught.value, NoSourceError)


def test_a_patch_that_does_not_apply_is_named(tree: SourceTree, tmp_path: Path) -> None:
    patch = tmp_path / "0001-wrong.patch"
    patch.write_text("--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-three\n+two\n")
    with pytest.raises(LabError, match=r"0001-wrong\.patch does not apply"):
        build.build(replace(RECIPE, variant="patched", patches="p"), tree, [patch], Silent())
    assert cache.kernels() == []


def test_a_failed_build_says_why_and_publishes_nothing(tree: SourceTree) -> None:
    (tree.path / "hook").write_text("echo 'a.c:1:2: error: no such thing'; exit 1\n")
    with pytest.raises(LabError, match=r"a\.c:1:2: error: no such thing\n.*the whole log is"):
        build.build(RECIPE, tree, [], Silent())
    assert cache.kernels() == []


def test_a_full_disk_is_one_sentence(tree: SourceTree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.path / "hook").write_text("echo 'a.c: write error: No space left on device'; exit 1\n")
    with pytest.raises(LabError, match="no space left on the disk; free some space, or set XDG_CACHE_HOME"):
        build.build(RECIPE, tree, [], Silent())
    monkeypatch.setattr(build, "BUILD_BYTES", 1 << 60)
    with pytest.raises(LabError, match=r"GiB free and .* GiB are needed to build a kernel"):
        build.build(RECIPE, tree, [], Silent())


def test_no_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match=r"cannot be built without gcc, make, .*apt-get install gcc make"):
        build.compiler()


def started(tree: SourceTree) -> "subprocess.Popen[bytes]":
    """Start a build of :data:`RECIPE` in a separate process."""
    # The process is not forked: a lock that a numpy thread of this process holds would stay locked in the child.
    program = "import pickle, sys; from iommufd_py.lab.build import build; build(*pickle.load(sys.stdin.buffer))"
    child = subprocess.Popen([*DEFAULT_SIGNALS, sys.executable, "-c", program], stdin=subprocess.PIPE)
    assert child.stdin is not None
    pickle.dump((RECIPE, tree, [], Silent()), child.stdin)
    child.stdin.close()
    return child


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_that_counts(tree: SourceTree, number: int) -> None:
    flag = tree.path.parent / "compiling"
    (tree.path / "hook").write_text(f"touch {flag}; sleep 60\n")
    with started(tree) as child:
        wait_until(flag.exists)
        child.send_signal(number)
        assert child.wait(patience(60)) != 0
    assert cache.kernels() == []
    # The half-written image exists, and must not count as a finished kernel.
    (tree.path / "hook").write_text("")
    assert build.build(RECIPE, tree, [], Silent()).image.read_text() == "one\n"


@pytest.mark.slow
def test_two_builds_of_the_same_kernel_build_it_once(tree: SourceTree) -> None:
    (tree.path / "hook").write_text("sleep 1\n")
    with started(tree) as one, started(tree) as other:
        assert [child.wait(patience(60)) for child in (one, other)] == [0, 0]
    (count,) = paths.work_dir().glob("build/*/stock/obj/count")
    assert count.read_text() == "built\n"
    assert len(cache.kernels()) == 1


# This Makefile of selftests waits. Meanwhile another process asks for the same selftests.
SELFTESTS = """
all:
\t@echo compiled >> ../../../../count
\t@sleep 1
\t@touch $(OUTPUT)/iommufd
"""


@pytest.mark.slow
def test_two_processes_compile_the_selftests_of_a_kernel_once(tree: SourceTree) -> None:
    (tree.path / "Makefile").write_text(f"{MAKEFILE}headers:\n")
    selftests = tree.path / "tools/testing/selftests/iommu"
    selftests.mkdir(parents=True)
    (selftests / "Makefile").write_text(SELFTESTS)
    built = build.build(RECIPE, tree, [], Silent())
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(build.build_selftests, built, "iommu", tree, [], Silent()) for _ in range(2)]
        found = {one.result(patience(60)) for one in asked}
    assert found == {built.directory / "selftests"}
    assert (built.directory / "selftests/iommufd").exists()
    (count,) = paths.work_dir().glob("build/*/stock/count")
    assert count.read_text() == "compiled\n"


def test_an_own_tree_is_told_by_its_content(tree: SourceTree) -> None:
    first = source.own_tree(tree.path)
    assert first.series == "7.3"
    assert source.own_tree(tree.path) == first
    (tree.path / "a.c").write_text("other\n")
    assert source.own_tree(tree.path).identity != first.identity
    (tree.path / ".config").touch()
    with pytest.raises(LabError, match="mrproper"):
        source.own_tree(tree.path)


def test_an_own_tree_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is not a kernel source tree"):
        source.own_tree(tmp_path)


def test_unpacked_trees_are_newest_first() -> None:
    for name in ("linux-source-6.12_6.12.117-1", "linux-source-7.3_7.3.4-1", "linux-source-7.3_7.3.10-1", ".unpack-x"):
        (paths.sources_dir() / name).mkdir(parents=True)
    assert [tree.identity for tree in source.unpacked_trees()] == [
        "linux-source-7.3 7.3.10-1",
        "linux-source-7.3 7.3.4-1",
        "linux-source-6.12 6.12.117-1",
    ]


def test_old_runs_go_and_those_of_living_processes_stay() -> None:
    ours = new_run_directory()
    for index in range(KEPT_RUNS + 5):
        # no process has this id
        (paths.runs_dir() / f"20000101-000000-{index:06}-99999999").mkdir()
    latest = new_run_directory()
    left = sorted(paths.runs_dir().iterdir())
    assert len(left) == KEPT_RUNS + 2
    assert ours in left
    assert latest in left
