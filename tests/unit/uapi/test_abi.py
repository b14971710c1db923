# SPDX-License-Identifier: MIT
"""Our declarations of the kernel ABI are consistent, and equal to a kernel's headers."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py.lab.source import unpacked_trees
from iommufd_py.uapi.ffi import ffi, lib

ROOT = Path(__file__).resolve().parents[3]
PATCHES = ROOT / "iommufd_py" / "lab" / "patches"
IOMMUFD = "include/uapi/linux/iommufd.h"
VFIO = "include/uapi/linux/vfio.h"
TEST = "drivers/iommu/iommufd/iommufd_test.h"

STRUCTS = ffi.list_types()[1]


def check_abi(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "check_abi", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def kernel_tree() -> Path:
    """IOMMUFD_KERNEL_TREE, or the newest source of the lab's kernels."""
    if tree := os.environ.get("IOMMUFD_KERNEL_TREE"):
        return Path(tree)
    trees = unpacked_trees()
    assert trees, "no kernel source is unpacked yet: run 'iommufd lab kernel build', or set IOMMUFD_KERNEL_TREE"
    return trees[0].path


@pytest.fixture
def altered_tree(kernel_tree: Path, tmp_path: Path) -> Callable[[str, str, str], Path]:
    """A function that copies the headers of the tree, and changes one text in one header."""

    def alter(altered: str, pattern: str, replacement: str) -> Path:
        for header in (IOMMUFD, VFIO, TEST):
            text = (kernel_tree / header).read_text()
            if header == altered:
                text, count = re.subn(pattern, replacement, text)
                assert count == 1, f"{pattern!r} is in {count} places of {header}"
            (tmp_path / header).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / header).write_text(text)
        return tmp_path

    return alter


# cffi compares a structure of the cdef with the compiler's only when it is first used.
@pytest.mark.parametrize("name", STRUCTS)
def test_cdef_is_what_the_compiler_saw(name: str) -> None:
    assert ffi.sizeof(f"struct {name}") > 0
    for field, _ in ffi.typeof(f"struct {name}").fields:
        assert ffi.offsetof(f"struct {name}", field) >= 0


@pytest.mark.parametrize("header", ["iommufd.h", "iommufd_test.h", "vfio.h"])
def test_every_structure_notes_its_size(header: str) -> None:
    text = (ROOT / "cffi_build" / "abi" / header).read_text()
    noted = re.findall(r"^struct (\w+) \{.*?^\}; /\* (\d+) bytes \*/$", text, flags=re.DOTALL | re.MULTILINE)
    assert [name for name, _ in noted] == re.findall(r"^struct (\w+) \{", text, flags=re.MULTILINE)
    assert {name: int(size) for name, size in noted} == {name: ffi.sizeof(f"struct {name}") for name, _ in noted}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("iommu_destroy", 8),
        ("iommu_ioas_alloc", 12),
        ("iommu_ioas_allow_iovas", 24),
        ("iommu_ioas_copy", 40),
        ("iommu_ioas_iova_ranges", 32),
        ("iommu_ioas_map", 40),
        ("iommu_ioas_unmap", 24),
        ("iommu_option", 24),
        ("iommu_vfio_ioas", 12),
        ("iommu_hwpt_alloc", 48),
        ("iommu_hw_info", 40),
        ("iommu_hwpt_set_dirty_tracking", 16),
        ("iommu_hwpt_get_dirty_bitmap", 48),
        ("iommu_hwpt_invalidate", 32),
        ("iommu_fault_alloc", 16),
        ("iommu_ioas_map_file", 40),
        ("iommu_viommu_alloc", 40),
        ("iommu_vdevice_alloc", 24),
        ("iommu_ioas_change_process", 8),
        ("iommu_veventq_alloc", 32),
        ("iommu_hw_queue_alloc", 40),
        ("iommu_test_cmd", 72),
    ],
)
def test_known_size(name: str, size: int) -> None:
    assert ffi.sizeof(f"struct {name}") == size


def test_every_ioctl_of_iommufd() -> None:
    commands = {name.removeprefix("IOMMUFD_CMD_") for name in dir(lib) if name.startswith("IOMMUFD_CMD_")} - {"BASE"}
    assert len(commands) == 22
    for command in commands:
        assert getattr(lib, f"IOMMU_{command}") == ord(";") << 8 | getattr(lib, f"IOMMUFD_CMD_{command}")


def test_every_operation_of_the_mock() -> None:
    operations = sorted(getattr(lib, name) for name in dir(lib) if name.startswith("IOMMU_TEST_OP_"))
    assert operations == list(range(1, 25))


def test_kernel_tree_agrees(kernel_tree: Path) -> None:
    complete = "IOMMU_IOAS_NOIOMMU_GET_PA" in (kernel_tree / IOMMUFD).read_text()
    result = check_abi(kernel_tree, *(["--require-all"] if complete else []))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("\n") == 1


def test_patched_tree_agrees(kernel_tree: Path, altered_tree: Callable[[str, str, str], Path]) -> None:
    tree = altered_tree(TEST, r"\A", "")
    version = dict(re.findall(r"^(VERSION|PATCHLEVEL) = (\d+)$", (kernel_tree / "Makefile").read_text(), re.MULTILINE))
    patches = sorted((PATCHES / f"{version['VERSION']}.{version['PATCHLEVEL']}").glob("*.patch"))
    assert patches
    subprocess.run(["git", "apply", f"--include={TEST}", *patches], cwd=tree, check=True)
    assert "CACHE_FLUSH_COUNT" in (tree / TEST).read_text()
    result = check_abi(tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "pattern", "replacement", "difference"),
    [
        pytest.param(
            IOMMUFD,
            r"(MAP_READABLE = 1 << )2",
            r"\g<1>3",
            "IOMMU_IOAS_MAP_READABLE: 0x4 here, 0x8 there",
            id="enumerator",
        ),
        pytest.param(
            VFIO,
            r"(#define VFIO_DMA_CC_IOMMU\s+)4",
            r"\g<1>5",
            "VFIO_DMA_CC_IOMMU: 0x4 here, 0x5 there",
            id="macro",
        ),
        pytest.param(
            IOMMUFD,
            r"(IOMMUFD_CMD_IOAS_UNMAP = 0x8)6",
            r"\g<1>7",
            "IOMMU_IOAS_UNMAP: 0x3b86 here, 0x3b87 there",
            id="ioctl number",
        ),
        pytest.param(
            IOMMUFD,
            r"(__aligned_u64 user_va;)\s+(__aligned_u64 length;)",
            r"\2 \1",
            "struct iommu_ioas_map.user_va: offset 16 size 8 here, offset 24 size 8 there",
            id="offset",
        ),
        pytest.param(
            TEST,
            r"__u32( refs;)",
            r"__u64\1",
            "struct iommu_test_cmd.check_refs.refs: offset 32 size 4 here, offset 32 size 8 there",
            id="size",
        ),
        pytest.param(
            IOMMUFD,
            r"(struct iommu_destroy \{\s+__u32 size;\s+__u32 id;)",
            r"\1 __u32 flags;",
            "struct iommu_destroy.flags: not declared here",
            id="new field",
        ),
        pytest.param(
            IOMMUFD,
            r"struct iommu_iova_range \{",
            "struct iommu_iova_span {",
            "struct iommu_iova_span: not declared here",
            id="new structure",
        ),
        pytest.param(
            TEST,
            r"(MOCK_FLAGS_ACCESS_)(SYZ = 1 << 16,)",
            r"\1\2 \1NEW = 1 << 17,",
            "MOCK_FLAGS_ACCESS_NEW: not declared here",
            id="new constant",
        ),
    ],
)
def test_difference_is_named(
    altered_tree: Callable[[str, str, str], Path], header: str, pattern: str, replacement: str, difference: str
) -> None:
    result = check_abi(altered_tree(header, pattern, replacement))
    assert difference in result.stdout.splitlines()
    assert result.returncode == 1


@pytest.mark.slow
def test_shorter_structure_is_older(altered_tree: Callable[[str, str, str], Path]) -> None:
    tree = altered_tree(IOMMUFD, r"\s+__u32 fault_id;\s+__u32 __reserved2;", "")
    assert check_abi(tree).returncode == 0
    result = check_abi("--require-all", tree)
    assert "struct iommu_hwpt_alloc: 48 bytes here, 40 bytes there" in result.stdout.splitlines()
    assert "struct iommu_hwpt_alloc.fault_id: absent there" in result.stdout.splitlines()
    assert result.returncode == 1


@pytest.mark.slow
def test_reserved_bytes_are_older(altered_tree: Callable[[str, str, str], Path]) -> None:
    tree = altered_tree(IOMMUFD, r"__u8 out_max_pasid_log2;\s+__u8 __reserved\[3\];", "__u32 __reserved;")
    assert check_abi(tree).returncode == 0
    assert check_abi("--require-all", tree).returncode == 1


def test_vfio_beyond_ours_is_no_difference(altered_tree: Callable[[str, str, str], Path]) -> None:
    tree = altered_tree(VFIO, r"(#define VFIO_API_VERSION\s+0\n)", r"\1#define VFIO_NEW 1\nstruct vfio_new {\n};\n")
    assert check_abi(tree).returncode == 0


def assert_refused(result: subprocess.CompletedProcess[str], reason: str) -> None:
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(f"check_abi: .*{reason}.*\n", result.stderr)


def test_no_kernel_tree(tmp_path: Path) -> None:
    assert_refused(check_abi(tmp_path), "is not a kernel source tree: no include/uapi/linux/iommufd.h")


def test_no_compiler(kernel_tree: Path) -> None:
    assert_refused(check_abi(kernel_tree, CC="no-such-cc"), "no-such-cc not found")


def test_headers_that_do_not_compile(altered_tree: Callable[[str, str, str], Path]) -> None:
    assert_refused(check_abi(altered_tree(IOMMUFD, r"struct iommu_destroy \{", "struct {{")), "do not compile: .*error")
