# SPDX-License-Identifier: MIT
"""New mappings, rule 1: which domains the IOAS has decides."""

from iommufd_py.hwpt import Coherency
from iommufd_py.memory import Backing
from iommufd_py.validate.scenario import scenario
from iommufd_py.validate.stage import Stage

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


@scenario((1, 3), "iopt_area_fill_domains", "batch_unpin")
def map_non_coherent(stage: Stage) -> None:
    """Map into an IOAS with a non-coherent domain, and unmap.

    The plain case: flush before the map, and again between unmap and unpin.
    """
    ioas = stage.ioas()
    stage.domain(ioas, NON_COHERENT)
    buffer = stage.buffer()
    with stage.step("map", enter=buffer.pages()):
        mapping = ioas.map(buffer.memory)
    with stage.step("unmap", rule=3, leave=buffer.pages()):
        mapping.close()


@scenario((1, 3), "iopt_area_fill_domains", "batch_unpin")
def map_coherent(stage: Stage) -> None:
    """Map into an IOAS whose only domain is coherent, unmap, map again and let the domain go.

    Nothing is ever flushed: coherent devices must not pay.
    """
    ioas = stage.ioas()
    hwpt = stage.domain(ioas, COHERENT)
    buffer = stage.buffer()
    with stage.step("map"):
        mapping = ioas.map(buffer.memory)
    with stage.step("unmap", rule=3):
        mapping.close()
    with stage.step("map again"):
        ioas.map(buffer.memory)
    with stage.step("the domain goes", rule=3):
        hwpt.close()


@scenario((1, 3), "iopt_map_pages")
def map_without_domain(stage: Stage) -> None:
    """Map into an IOAS without a domain, and unmap.

    No device can reach the pages, they are not even pinned.
    """
    ioas = stage.ioas()
    stage.device(NON_COHERENT)
    buffer = stage.buffer()
    with stage.step("map"):
        mapping = ioas.map(buffer.memory)
    with stage.step("unmap", rule=3):
        mapping.close()


@scenario((1, 3), "iopt_area_fill_domains", "iopt_table_add_domain")
def map_one_of_each(stage: Stage) -> None:
    """Map into an IOAS with a coherent and a non-coherent domain, in both orders of joining.

    One non-coherent domain among others is enough, wherever it stands.
    """
    for first, second in ((COHERENT, NON_COHERENT), (NON_COHERENT, COHERENT)):
        ioas = stage.ioas()
        stage.domain(ioas, first)
        stage.domain(ioas, second)
        buffer = stage.buffer()
        with stage.step(f"map, {first} first", enter=buffer.pages()):
            mapping = ioas.map(buffer.memory)
        with stage.step("unmap", rule=3, leave=buffer.pages()):
            mapping.close()


@scenario((1, 3), "iopt_area_fill_domains")
def map_two_non_coherent(stage: Stage) -> None:
    """Map into an IOAS with two non-coherent domains, and unmap.

    Once per page, not once per domain.
    """
    ioas = stage.ioas()
    stage.domain(ioas, NON_COHERENT)
    stage.domain(ioas, NON_COHERENT)
    buffer = stage.buffer()
    with stage.step("map", enter=buffer.pages()):
        mapping = ioas.map(buffer.memory)
    with stage.step("unmap", rule=3, leave=buffer.pages()):
        mapping.close()


@scenario((1, 3), "iopt_table_remove_domain", "iopt_area_fill_domains")
def map_after_the_last_non_coherent(stage: Stage) -> None:
    """Map, let the only non-coherent domain of two go, map something else, unmap both.

    With the domain gone new pages are not flushed any more, but the old ones are when they are unpinned.
    """
    ioas = stage.ioas()
    stage.domain(ioas, COHERENT)
    goes = stage.domain(ioas, NON_COHERENT)
    old, new = stage.buffer(), stage.buffer()
    with stage.step("map", enter=old.pages()):
        first = ioas.map(old.memory)
    with stage.step("the non-coherent domain goes", rule=3):
        goes.close()
    with stage.step("map another buffer"):
        second = ioas.map(new.memory)
    with stage.step("unmap that", rule=3):
        second.close()
    with stage.step("unmap the first", rule=3, leave=old.pages()):
        first.close()


@scenario((1, 3), "iopt_table_remove_domain", "iopt_table_add_domain")
def map_while_domains_come_and_go(stage: Stage) -> None:
    """Two non-coherent domains join and one leaves, then the other, then one comes back; map each time.

    The count of non-coherent domains must follow. One too few and a map is not flushed, one too many and it is flushed
    for coherent devices.
    """
    ioas = stage.ioas()
    stage.domain(ioas, COHERENT)
    first, second = stage.domain(ioas, NON_COHERENT), stage.domain(ioas, NON_COHERENT)
    buffer = stage.buffer(4)

    def map_and_unmap(flushed: bool) -> None:
        pages = buffer.pages() if flushed else ()
        with stage.step("map", enter=pages):
            mapping = ioas.map(buffer.memory)
        with stage.step("unmap", rule=3, leave=pages):
            mapping.close()

    map_and_unmap(True)
    for goes, left in ((first, True), (second, False)):
        with stage.step("a non-coherent domain goes", rule=3):
            goes.close()
        map_and_unmap(left)
    stage.domain(ioas, NON_COHERENT)
    map_and_unmap(True)


@scenario((1, 3), "batch_from_folios", "batch_unpin")
def map_memfd(stage: Stage) -> None:
    """Map a memfd as a file, and unmap.

    Its pages come as folios, not from user addresses; they are cached like any others.
    """
    ioas = stage.ioas()
    stage.domain(ioas, NON_COHERENT)
    buffer = stage.buffer(backing=Backing.MEMFD)
    with stage.step("map", enter=buffer.pages()):
        mapping = ioas.map_file(buffer.memory)
    with stage.step("unmap", rule=3, leave=buffer.pages()):
        mapping.close()
