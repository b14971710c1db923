# SPDX-License-Identifier: MIT
"""Conclusions about the IOMMU's tables from a guest's kernel log and from `dma check`."""

import json

from iommufd_py.lab.guest import BEGIN_MARK
from iommufd_py.lab.tables import failures_of, faults_of

BOOT = (
    "[    1.2] DMAR: [DMA Read NO_PASID] Request device [00:12.0] fault addr 0xfffe{} [fault reason 0x06] "
    "PTE Read access is not set\n"
)
STOPPED = (
    "[    9.9] DMAR: [DMA Write NO_PASID] Request device [00:10.0] fault addr 0x1000 [fault reason 0x05] "
    "PTE Write access is not set\n"
)
LOST = (
    "[    {}] DMAR: [INTR-REMAP] Request device [00:10.0] fault index 0x1a [fault reason 0x22] "
    "Present field in the IRTE entry is clear\n"
)
BEGIN = f"[    5.0] {BEGIN_MARK}sh -c ...\n"


def test_stopped_dma_is_a_fault_during_boot_and_not_during_the_checks() -> None:
    assert faults_of(BEGIN + STOPPED) == []
    (one,) = faults_of(BOOT.format("000") + BOOT.format("111") + BEGIN + STOPPED)
    assert one.endswith("PTE Read access is not set (2 times)")
    # a guest that died before the mark
    assert len(faults_of(BOOT.format("000"))) == 1


def test_a_stopped_interrupt_is_a_fault_at_any_time() -> None:
    assert len(faults_of(LOST.format("1.0") + BEGIN)) == 1
    assert len(faults_of(BEGIN + LOST.format("9.0"))) == 1


def test_failures_are_those_of_all_documents() -> None:
    def document(device: str, *verdicts: str) -> str:
        cases = [{"name": f"case {at}", "verdict": one, "remark": "why"} for at, one in enumerate(verdicts)]
        return json.dumps({"device": device, "cases": cases}, indent=2)

    output = f"noise\n{document('a', 'pass', 'fail')}\n{document('b', 'skip', 'fail')}\n"
    assert failures_of(output, 2) == ["a, case 1: why", "b, case 1: why"]
    assert failures_of(output, 3)[-1] == "1 of 3 devices could not be used"
    assert failures_of(output[:-20], 2)[-1] == "1 of 2 devices could not be used"
    assert failures_of("", 2) == ["2 of 2 devices could not be used"]


def test_a_guest_that_was_lost_answers_for_no_device() -> None:
    assert failures_of("", 0) == []
