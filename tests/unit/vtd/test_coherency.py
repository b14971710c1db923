# SPDX-License-Identifier: MIT
"""The flushes that ECAP predicts, for page tables and for data pages."""

import pytest

from iommufd_py.base.coherency import Coherency
from iommufd_py.vtd import ECAP, Capabilities
from iommufd_py.vtd.coherency import IommuKind, flushes_of, flushes_of_vtd

BIT = {field.name: field.mask for field in ECAP}
COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


def unit(*names: str) -> Capabilities:
    return Capabilities(0, sum(BIT[name] for name in names))


@pytest.mark.parametrize(
    ("names", "scalable", "page_table_flush"),
    [
        ((), False, True),
        (("C",), False, False),
        (("C",), True, True),  # snooping in legacy mode tells nothing about scalable mode
        (("SMPWCS",), True, False),
        (("SMPWCS",), False, True),
        ((), None, True),
        (("C", "SMPWCS"), None, False),
        (("C",), None, None),
        (("SMPWCS",), None, None),
    ],
)
def test_page_table_flush_is_by_the_page_walk_of_the_mode(
    names: tuple[str, ...], scalable: bool | None, page_table_flush: bool | None
) -> None:
    for snoop_control in ((), ("SC",)):  # this bit has no influence
        flushes = flushes_of_vtd(unit(*names, *snoop_control), scalable)
        assert flushes.page_table_flush is page_table_flush
    assert (page_table_flush is None) == ("not known" in flushes.page_table_evidence)


@pytest.mark.parametrize("page_walk", [(), ("C",), ("SMPWCS",), ("C", "SMPWCS")])
def test_data_page_flush_is_by_snoop_control(page_walk: tuple[str, ...]) -> None:
    without, having = (flushes_of_vtd(unit(*page_walk, *names), False) for names in ((), ("SC",)))
    assert (without.coherency, without.data_page_flush) == (NON_COHERENT, True)
    assert (having.coherency, having.data_page_flush) == (COHERENT, False)
    assert "ECAP.SC=0 (predicted)" in without.coherency_evidence


def test_the_kernels_answer_outweighs_the_prediction() -> None:
    flushes = flushes_of_vtd(unit("SC"), False, dma_cc=False)
    assert flushes.data_page_flush is True
    assert flushes.coherency_evidence == "VFIO_DMA_CC_IOMMU=0, ECAP.SC=1"


def test_other_iommus() -> None:
    assert flushes_of(IommuKind.VIRTIO).data_page_flush is True
    assert flushes_of(IommuKind.VIRTIO, dma_cc=True).data_page_flush is False
    unknown = flushes_of(IommuKind.OTHER)
    assert (unknown.coherency, unknown.data_page_flush, unknown.page_table_flush) == (None, None, None)
    assert flushes_of(IommuKind.OTHER, dma_cc=False).coherency is NON_COHERENT
