# SPDX-License-Identifier: MIT
"""Run the kernel's own iommu selftests on the kernel that they belong to."""

import io
from collections.abc import Mapping
from pathlib import Path

from iommufd_py.lab import vm
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.tap import TapReport, parse_tap

PROGRAMS = ("iommufd", "iommufd_fail_nth")
"""Programs of tools/testing/selftests/iommu: the cases of the uAPI, and cases with every allocation failing in turn."""

_MARK = "# program "


def run_selftests(image: Path, programs: Path, kernel_name: str, *, timeout: float = 900) -> Mapping[str, TapReport]:
    """Boot *image*, run the selftests in *programs*, and return the report of each.

    Raises:
        LabError: the guest died, or its kernel reported a warning or an oops.
    """
    output, diagnostics = io.BytesIO(), io.BytesIO()
    script = "; ".join(f"echo '{_MARK}{name}'; {programs}/{name}" for name in PROGRAMS)
    command = ["sh", "-c", f"{script}; true"]
    # 6.12 cannot create a mock device while another IOMMU driver is active.
    machine = Machine(iommu="none")
    result = vm.run_in_vm(
        image, command, machine, kernel_name=kernel_name, timeout=timeout, stdout=output, stderr=diagnostics
    )
    if result.problem is not None:
        raise LabError(f"{result.problem}\n{result.log_excerpt()}")
    _, *parts = output.getvalue().decode(errors="replace").split(_MARK)
    return {part.partition("\n")[0].strip(): parse_tap(part.splitlines()) for part in parts}
