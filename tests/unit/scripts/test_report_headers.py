# SPDX-License-Identifier: MIT
"""Each format of a report in the sources of the kernels has a kind, and the lists are those of the sources."""

import importlib.util
import re
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/report_headers"


def _script() -> ModuleType:
    loader = SourceFileLoader("report_headers", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("report_headers", loader))
    loader.exec_module(module)
    return module


report_headers = _script()

# These lines continue a report that another line has begun, or report its end.
CONTINUATIONS = (
    "likely owned by",
    "likely last held by",
    "owner is not found",
    "last holder is not found",
    "lockdep is turned off",
    "tall ended before",
    "tall ended during",
    "suppressed full report",
)
SERIES = sorted((Path(__file__).parent / "report_formats").glob("*.txt"))
LOOKS_LIKE_A_REPORT = re.compile(
    r"^(?:[\w-]+: )?(?:BUG|[Kk]ernel BUG|INFO: task|INFO: .* stall|WARNING|Oops|UBSAN|Kernel panic|.*hard LOCKUP"
    r"|AMD-Vi: Event logged|.*Completion-Wait|DMAR: VT-d detected|DMAR: \[|Time out|arm-smmu-v3 \S+: event 0x)"
)


@pytest.mark.parametrize("file", SERIES, ids=lambda file: file.stem)
def test_every_format_of_a_report_in_the_sources_has_a_kind(file: Path) -> None:
    lines = [line.split("\t", 2) for line in file.read_text().splitlines()[1:]]
    assert len(lines) > 400
    for kind, source, form in lines:
        assert kind == report_headers.kind_of(form), f"{source}: {form}: run scripts/report_headers"
        if LOOKS_LIKE_A_REPORT.match(form) and not any(one in form for one in CONTINUATIONS):
            assert kind != "-", f"{source}: {form}"
    wanted = {"BUG", "DMA fault", "KASAN", "KCSAN", "KFENCE", "WARNING", "hard lockup", "hung task", "leak", "lockdep"}
    assert wanted | {"oops", "panic", "stall"} <= {kind for kind, _, _ in lines}


@pytest.mark.parametrize("file", SERIES, ids=lambda file: file.stem)
def test_list_is_that_of_the_sources(file: Path) -> None:
    tree = report_headers.newest_trees().get(file.stem)
    if tree is None:
        pytest.skip(f"the sources of {file.stem} are not in the lab's cache: 'iommufd lab kernel build' fetches them")
    head, *lines = file.read_text().splitlines()
    assert head == f"# {tree.name}", "another release of the series: run scripts/report_headers and read the difference"
    assert lines == report_headers.listed(tree)
