# SPDX-License-Identifier: MIT
"""Domains that join a populated IOAS, rule 2: the domain that joins decides."""

from iommufd_py.hwpt import Coherency
from iommufd_py.validate.scenario import scenario
from iommufd_py.validate.stage import Stage

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


@scenario((2, 3), "iopt_area_fill_domain", "iopt_unfill_domain")
def attach_to_pages_from_nowhere(stage: Stage) -> None:
    """A non-coherent domain joins an IOAS whose pages are not pinned yet.

    The domain's join pins the pages, and its end unpins them.
    """
    ioas = stage.ioas()
    buffer = stage.buffer()
    ioas.map(buffer.memory)
    hwpt = stage.domain(ioas, NON_COHERENT, enter=buffer.pages())
    with stage.step("the domain goes", rule=3, leave=buffer.pages()):
        hwpt.close()


@scenario((2, 3), "iopt_area_fill_domain", "batch_from_domain")
def attach_to_pages_of_a_coherent_domain(stage: Stage) -> None:
    """A non-coherent domain joins a coherent one and leaves before it.

    The pages come out of the other domain's table, unflushed. The coherent domain keeps them pinned, and their mark.
    """
    ioas = stage.ioas()
    keeps = stage.domain(ioas, COHERENT)
    buffer = stage.buffer()
    with stage.step("map"):
        ioas.map(buffer.memory)
    joins = stage.domain(ioas, NON_COHERENT, enter=buffer.pages())
    with stage.step("the non-coherent domain goes", rule=3):
        joins.close()
    with stage.step("the coherent domain goes", rule=3, leave=buffer.pages()):
        keeps.close()


@scenario((2, 3), "iopt_area_fill_domain")
def attach_to_pages_of_a_non_coherent_domain(stage: Stage) -> None:
    """A second non-coherent domain joins.

    Marked already, and yet no reason to skip: rule 2 does not ask where pages come from.
    """
    ioas = stage.ioas()
    first = stage.domain(ioas, NON_COHERENT)
    buffer = stage.buffer()
    with stage.step("map", enter=buffer.pages()):
        ioas.map(buffer.memory)
    second = stage.domain(ioas, NON_COHERENT, enter=buffer.pages())
    with stage.step("the first goes", rule=3):
        first.close()
    with stage.step("the second goes", rule=3, leave=buffer.pages()):
        second.close()


@scenario((2, 3), "iopt_area_fill_domain")
def attach_a_coherent_domain(stage: Stage) -> None:
    """A coherent domain joins a non-coherent one, and outlives it.

    It is this domain's coherency that counts, not that of those already there.
    """
    ioas = stage.ioas()
    first = stage.domain(ioas, NON_COHERENT)
    buffer = stage.buffer()
    with stage.step("map", enter=buffer.pages()):
        mapping = ioas.map(buffer.memory)
    stage.domain(ioas, COHERENT)
    with stage.step("the non-coherent domain goes", rule=3):
        first.close()
    with stage.step("unmap", rule=3, leave=buffer.pages()):
        mapping.close()


@scenario((2, 3), "iopt_area_fill_domain", "iopt_get_pages")
def attach_to_parts_of_shared_pages(stage: Stage) -> None:
    """Two IOASes hold copies of different parts of one mapping; a non-coherent domain joins the one, then the other.

    The mark of the pages, set for the first area, says nothing about the second: the last paragraph of the rules' mail.
    """
    source, first, second = stage.ioas(), stage.ioas(), stage.ioas()
    buffer = stage.buffer()
    whole = source.map(buffer.memory)
    first.copy(whole, length=4 << 12)
    second.copy(whole, offset=8 << 12, length=4 << 12)
    one = stage.domain(first, NON_COHERENT, enter=buffer.pages(0, 4))
    other = stage.domain(second, NON_COHERENT, enter=buffer.pages(8, 4))
    with stage.step("the first domain goes", rule=3, leave=buffer.pages(0, 4)):
        one.close()
    with stage.step("the second domain goes", rule=3, leave=buffer.pages(8, 4)):
        other.close()
