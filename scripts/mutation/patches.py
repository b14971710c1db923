# SPDX-License-Identifier: MIT
"""The patches of tests/lab/mutants: mistakes, other right ways, and mistakes in the tables of the IOMMU."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from iommufd_py.lab.machine import TEST_DEVICES

PATCHES = Path(__file__).resolve().parents[2] / "tests" / "lab" / "mutants"
# The selection for CI. Bytes show the first two, and validate the first three.
QUICK = (
    # A mistake in each rule.
    "rule1-skips-marked",
    "rule2-skips-marked",
    "flush-after-unpin",
    # With --incoherent: two tables of the IOMMU.
    "leaf-at-map",
    "pasid-directory",
)
_DATA = f"iommufd dma coherency --device {TEST_DEVICES[0]} --bind --json"
_TYPE1 = "vfio_type1v2"


@dataclass(frozen=True)
class Subject:
    """One kernel: the series with one patch on top, or without."""

    file: Path | None

    @property
    def name(self) -> str:
        """Its name in the table."""
        if self.file is None:
            return "the series itself"
        return f"variant {self.file.stem}" if self.is_right else self.file.stem

    @property
    def is_right(self) -> bool:
        """Whether the kernel keeps the rules."""
        return self.file is None or self.file.parent.name == "variants"

    @property
    def is_of_tables(self) -> bool:
        """Whether the patch concerns the IOMMU's own tables."""
        return self.file is not None and self.file.parent.name == "tables"

    @property
    def is_native(self) -> bool:
        """Whether User-Mode Linux has the code that the patch changes."""
        return "+++ b/drivers/vfio/" not in self.text and "\nNot-native:" not in self.text and not self.is_of_tables

    @property
    def text(self) -> str:
        """The text of the patch."""
        return "" if self.file is None else self.file.read_text()

    @property
    def command(self) -> list[str]:
        """The command that validates the kernel, with the options that the patch requests."""
        return ["iommufd", "validate", "--json", *(self._header("Validate-with") or "").split()]

    @property
    def data_command(self) -> str:
        """The command that compares the bytes, in the kind of address space that the patch changes."""
        type1 = "b/drivers/vfio/vfio_iommu_type1.c" in self.text and "b/drivers/iommu/" not in self.text
        return f"{_DATA} --container {_TYPE1}" if type1 else _DATA

    @property
    def unseen(self) -> str | None:
        """The reason why no byte shows the mistake; None if a byte shows it."""
        return self._header("Unseen-by-data")

    def _header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*)$", self.text, re.MULTILINE)
        return found[1] if found else None


def subjects(*, tables: bool) -> Iterator[Subject]:
    """Yield the series itself, the mistakes, the variants, and with *tables* the mistakes in the IOMMU's tables."""
    yield Subject(None)
    for pattern in ("*.patch", "variants/*.patch", *(["tables/*.patch"] if tables else [])):
        for file in sorted(PATCHES.glob(pattern)):
            yield Subject(file)


def chosen_subjects(patterns: Sequence[str], *, quick: bool, incoherent: bool, native: bool) -> list[Subject]:
    """Return the series itself, and the patches that a guest of this kind can test and whose name matches a pattern.

    Args:
        patterns: patterns of names, as in a shell.
        quick: whether only the selection for CI counts.
        incoherent: whether the bytes are compared too, and the patches of tables are tested.
        native: whether the kernels are User-Mode Linux.
    """
    return [
        one
        for one in subjects(tables=incoherent)
        if one.file is None
        or (
            any(fnmatchcase(one.file.stem, pattern) for pattern in patterns)
            and (not quick or one.file.stem in QUICK)
            and (not native or one.is_native)
        )
    ]
