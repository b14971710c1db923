# SPDX-License-Identifier: MIT
"""The emulator with CPU caches: its name in the cache, the conditions of its build, and the state after a failure."""

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.lab import emulators, paths
from iommufd_py.lab.apt import Archive, PrivateApt
from iommufd_py.lab.doctor import examine
from iommufd_py.lab.emulators import Emulator, EmulatorRecipe, build_emulator, cached_emulator
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.progress import Silent

pytestmark = pytest.mark.usefixtures("empty_cache")

DATA = Path(str(resources.files("iommufd_py.lab") / "emulator"))
RECIPE = EmulatorRecipe("qemu 1:7.2", "c0ffee", "beef", "cafe", "gcc 12")


def published(recipe: EmulatorRecipe) -> Emulator:
    directory = paths.cache_root()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log"
    log.touch()
    return emulators._publish(recipe, Path("/bin/true"), log)


@given(st.data())
def test_a_change_of_any_ingredient_changes_the_key(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(EmulatorRecipe.__slots__))
    value = data.draw(st.text().filter(lambda text: text != getattr(RECIPE, name)))
    assert replace(RECIPE, **{name: value}).key != RECIPE.key


def test_an_emulator_of_the_present_patches_is_found_for_any_compiler() -> None:
    assert cached_emulator() is None
    present = emulators._recipe("qemu 1:7.2", "gcc 12")
    one = published(present)
    assert cached_emulator() == one
    assert one.program.stat().st_mode & 0o111
    assert build_emulator(Silent()) == one


@pytest.mark.parametrize("name", ["patches", "devices", "options"])
def test_one_of_other_ingredients_is_not_taken(name: str) -> None:
    published(replace(emulators._recipe("qemu 1:7.2", "gcc 12"), **{name: "old"}))
    assert cached_emulator() is None


def test_one_of_another_version_of_this_tool_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(emulators, "_SCHEMA", "iommufd-lab-emulator/0")
        published(emulators._recipe("qemu 1:7.2", "gcc 12"))
    assert cached_emulator() is None


def test_a_build_that_is_stopped_leaves_nothing_but_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = paths.work_dir() / "emulator/build-killed"
    stale.mkdir(parents=True)

    def stopped(build: emulators._Build) -> Emulator:
        build._log.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(emulators._Build, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_emulator(Silent())
    assert sorted(path.name for path in stale.parent.iterdir()) == ["build.log", "lock"]
    assert cached_emulator() is None


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LabError, match=r"cannot be built without gcc, .*; run: sudo apt-get install gcc"):
        build_emulator(Silent())


def test_doctor_names_the_command_that_builds_the_emulator() -> None:
    def diagnosis() -> tuple[str, str, str]:
        (one,) = [one for one in examine() if one.subject == "emulator with CPU caches"]
        return one.state, one.text, one.remedy

    assert diagnosis() == (
        "note",
        "not built yet; the first run with --incoherent builds it",
        "iommufd lab emulator build",
    )
    published(emulators._recipe("qemu 1:7.2", "gcc 12"))
    assert diagnosis() == ("ok", "built from qemu 1:7.2", "")


def test_doctor_names_what_its_build_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulators.shutil, "which", lambda tool, **_: None if tool == "xz" else f"/usr/bin/{tool}")
    (one,) = [one for one in examine() if one.subject == "emulator with CPU caches"]
    assert (one.state, one.remedy) == ("note", "sudo apt-get install xz-utils")


def test_every_patch_says_who_what_and_under_which_licence() -> None:
    patches = emulators._patches()
    assert len(patches) == 8
    for number, patch in enumerate(patches, 1):
        text = patch.read_text()
        assert patch.name.startswith(f"{number:04}-")
        assert text.startswith("From 0000000000000000000000000000000000000000 ")
        assert "\nSigned-off-by: " in text
        new_files = text.count("\nnew file mode")
        assert text.count("\n+ * SPDX-License-Identifier: GPL-2.0-or-later") == new_files
    assert "GPL-2.0-or-later" in (DATA / "README.md").read_text()


def test_the_missing_packages_of_a_build_are_those_of_apts_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = """Reading package lists...
The following NEW packages will be installed:
  libfdt-dev meson
Inst libpcre2-8-0 [10.42-1] (10.42-1+deb12u2 Debian:12.14/oldstable [amd64])
Inst libfdt-dev (1.6.1-4+b1 Debian:12.14/oldstable [amd64])
Conf libfdt-dev (1.6.1-4+b1 Debian:12.14/oldstable [amd64])
"""
    apt = PrivateApt(tmp_path, [Archive("http://mirror.example/debian", "bookworm", kind="deb-src")])
    assert (tmp_path / "sources.list").read_text().startswith("deb-src [signed-by=")
    monkeypatch.setattr("iommufd_py.lab.apt.run_tool", lambda *_, **__: output)
    assert apt.lacking(["libfdt-dev"]) == {"libpcre2-8-0": "10.42-1+deb12u2", "libfdt-dev": "1.6.1-4+b1"}


def test_the_incoherent_machine_has_caches_and_devices_that_do_not_snoop() -> None:
    plain, incoherent = Machine().qemu_args(), Machine(incoherent=True, evict=5, seed=2).qemu_args()
    assert "cpu-caches,evict=5,seed=2" in incoherent
    assert sum("x-no-snoop=on" in arg for arg in incoherent) == 3
    assert not any("cpu-caches" in arg or "x-no-snoop" in arg or "x-dma-ms" in arg for arg in plain)
    names = {str(Machine()), str(Machine(incoherent=True)), str(Machine(incoherent=True, evict=5))}
    assert len(names) == 3


def test_machines_that_cannot_be_incoherent_are_refused() -> None:
    with pytest.raises(ValueError, match="only VT-d has a machine"):
        Machine(iommu="amd", incoherent=True)
    with pytest.raises(ValueError, match="only the incoherent machine"):
        Machine(evict=1)
