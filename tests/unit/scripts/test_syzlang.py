# SPDX-License-Identifier: MIT
"""The descriptions for syzkaller are up to date, follow its grammar, and have the sizes of the kernel's structures."""

import re

import pytest

from iommufd_py.uapi.ffi import ffi
from scripts import syzlang

TEXT = syzlang.OUTPUT.read_text()
# The names that syzkaller's own dev_iommu.txt and its basic files define.
KNOWN = {"fd_iommufd", "fd", *syzlang.KNOWN.values()}
FLAGS = {"iommufd_ioas_map_flags"}

RESOURCE = re.compile(r"resource (\w+)\[(fd|int32)\]")
IOCTL = re.compile(r"ioctl\$([A-Z_]+)(?:\$(\w+))?\(fd fd_iommufd, cmd const\[([A-Z_]+)\], arg ptr\[in, ([\w$]+)\]\)")
FILE_CALL = re.compile(r"(?:read|write)\$(\w+)\(fd (\w+), buf buffer\[(?:in|out)\], count len\[buf\]\)")
FIELD = re.compile(r"\t(\w+)\t([^\t]+)(?:\t\((out|inout)\))?")
FLAG_SET = re.compile(r"(\w+) = ([A-Z]\w*(?:, [A-Z]\w*)*)")
SIZES = {"int16": 2, "int32": 4, "int64": 8}


def structures() -> dict[str, list[tuple[str, str]]]:
    found = re.finditer(r"^([\w$]+) \{\n(.*?)^\}$", TEXT, re.MULTILINE | re.DOTALL)
    return {
        one[1]: [(field[1], field[2]) for field in map(FIELD.fullmatch, one[2].splitlines()) if field] for one in found
    }


def size(kind: str) -> int:
    if kind.startswith("ptr64["):
        return 8
    return SIZES.get((re.search(r"\b(int\d+)\]?$", kind) or ["", "int32"])[1], 4)


def test_file_is_fresh() -> None:
    assert syzlang.syzlang_document(syzlang.HEADER.read_text(), syzlang.TEST_HEADER.read_text()) == TEXT


def test_every_line_is_in_the_grammar() -> None:
    structure = False
    for line in TEXT.splitlines():
        if structure:
            structure = line != "}"
            assert line == "}" or FIELD.fullmatch(line), line
        elif re.fullmatch(r"[\w$]+ \{", line):
            structure = True
        else:
            forms = (RESOURCE, IOCTL, FILE_CALL, FLAG_SET)
            assert not line or line.startswith("#") or any(form.fullmatch(line) for form in forms), line
    assert not structure


def test_every_name_is_defined_and_used() -> None:
    resources = {one[1] for one in RESOURCE.finditer(TEXT)}
    flags = {one[1] for one in re.finditer(rf"^{FLAG_SET.pattern}$", TEXT, re.MULTILINE)}
    kinds = [kind for fields in structures().values() for _, kind in fields]
    for kind in kinds:
        if kind.startswith("flags["):
            assert kind[6:].partition(",")[0] in flags | FLAGS
        elif "[" not in kind and kind not in SIZES:
            assert kind in resources | KNOWN
    assert resources <= set(kinds)
    passed = {one[4] for one in IOCTL.finditer(TEXT)}
    assert passed == set(structures())


def test_has_the_ioctls_that_are_missing() -> None:
    assert {one[1] for one in IOCTL.finditer(TEXT)} == {*syzlang.MISSING, "IOMMU_DESTROY"}
    assert len(syzlang.MISSING) == 8
    assert all(one[1] == one[3] for one in IOCTL.finditer(TEXT))


@pytest.mark.parametrize("name", sorted(syzlang.MISSING.values()))
def test_structure_is_the_kernels(name: str) -> None:
    fields = structures()[name]
    assert [field for field, _ in fields] == [field for field, _ in ffi.typeof(f"struct {name}").fields]
    assert sum(size(kind) for _, kind in fields) == ffi.sizeof(f"struct {name}")
    for (field, kind), (_, declared) in zip(fields, ffi.typeof(f"struct {name}").fields, strict=True):
        assert size(kind) == ffi.sizeof(declared.type), field
