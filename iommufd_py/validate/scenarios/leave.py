# SPDX-License-Identifier: MIT
"""Ways in which pages are given back, rule 3: what was exposed is flushed after the last unmap, before the unpin."""

from iommufd_py.hwpt import Coherency
from iommufd_py.validate.scenario import scenario
from iommufd_py.validate.stage import Stage

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


@scenario((3,), "iopt_area_unfill_domains", "iommufd_fops_release")
def close_without_unmap(stage: Stage) -> None:
    """Close the iommufd with everything still mapped.

    The end of a process that crashed.
    """
    ioas = stage.ioas()
    stage.domain(ioas, NON_COHERENT)
    buffer = stage.buffer()
    with stage.step("map", enter=buffer.pages()):
        ioas.map(buffer.memory)
    with stage.step("close the iommufd", rule=3, leave=buffer.pages()):
        stage.iommufd.close()
