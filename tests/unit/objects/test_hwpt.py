# SPDX-License-Identifier: MIT
"""The evidence for the coherency of a HWPT, and the refusal of a coherency that it does not support."""

import pytest

from iommufd_py import Coherency, CoherencyError, CoherencyEvidence

SNOOPS, DOES_NOT = 0xF00FCA, 0xF00F4A  # ECAP of QEMU's intel-iommu with snoop-control=on and =off


@pytest.mark.parametrize(
    ("evidence", "coherency"),
    [
        (CoherencyEvidence(dma_cc=False, ecap=DOES_NOT), Coherency.NON_COHERENT),
        (CoherencyEvidence(dma_cc=True, ecap=SNOOPS), Coherency.COHERENT),
        (CoherencyEvidence(dma_cc=False, ecap=None), Coherency.NON_COHERENT),
        # The IOMMU can enforce coherency, but the kernel does not. The domain decides, not the hardware.
        (CoherencyEvidence(dma_cc=False, ecap=SNOOPS), Coherency.NON_COHERENT),
    ],
)
def test_evidence_satisfies_its_coherency_only(evidence: CoherencyEvidence, coherency: Coherency) -> None:
    assert evidence.coherency is coherency
    evidence.require(coherency, "device")
    evidence.require(Coherency.ANY, "device")
    other = Coherency.COHERENT if coherency is Coherency.NON_COHERENT else Coherency.NON_COHERENT
    with pytest.raises(CoherencyError, match=f"is {coherency}, not {other}: VFIO_DMA_CC_IOMMU={int(evidence.dma_cc)}"):
        evidence.require(other, "device")


def test_contradiction_is_refused_even_without_a_wish() -> None:
    with pytest.raises(CoherencyError, match="contradicts itself"):
        CoherencyEvidence(dma_cc=True, ecap=DOES_NOT).require(Coherency.ANY, "device")
