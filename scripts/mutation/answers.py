# SPDX-License-Identifier: MIT
"""Judge the answers of a kernel with a mistake, or without one: of validate, and of the bytes. Pure."""

import json
from typing import Any

from iommufd_py.lab.runs import RunResult

# Outcomes, besides a violation, that count as a found mistake.
FOUND_WORDS = ("kernel report", "counters disagree")


def killers(document: dict[str, Any]) -> list[str]:
    """Return the scenarios that found a mistake, each with the broken rules or with its outcome."""
    found = []
    for one in document["scenarios"]:
        rules = sorted({str(violation["rule"] or "VFIO_DMA_CC_IOMMU") for violation in one["violations"]})
        if rules:
            found.append(f"{one['name']} ({', '.join(rules)})")
        elif one["outcome"] in FOUND_WORDS:
            found.append(f"{one['name']} ({one['outcome']})")
    return found


def judge_answer(
    is_right: bool, document: dict[str, Any] | None, trouble: str, *, native: bool = False
) -> tuple[bool, str]:
    """Return whether the answer of validate is right, and the answer as text.

    Args:
        is_right: whether the kernel keeps the rules.
        document: the answer; None if the guest gave none.
        trouble: the failure of the guest; empty if it did not fail.
        native: whether the kernel itself has checked the order.
    """
    also = f"; the guest {trouble}" if trouble else ""
    if document is None:
        return False, f"no answer{also}"
    found = killers(document)
    outcome = document["outcome"]
    # Without probes, the kernel's own check has observed the order.
    accepted = ("kept", "counts agree") if native else ("kept",)
    errors = [f"{one['name']} ({one['reason']})" for one in document["scenarios"] if one["outcome"] == "error"]
    if is_right:
        if outcome in accepted:
            return not trouble, f"accepted{also}"
        return False, f"not accepted, {outcome}: {', '.join(found + errors)}{also}"
    if not found:
        return False, f"survived, {', '.join([outcome, *errors])}{also}"
    return True, and_more(found) + also


def broken_rules(case: dict[str, Any]) -> list[int]:
    """Return the rules of the wrong readings of a case, from the document of `iommufd dma coherency`."""
    return sorted({reading["rule"] for reading in case["readings"] if not reading["right"]})


def judge_data(is_right: bool, unseen: str | None, good: bool, document: dict[str, Any] | None) -> tuple[bool, str]:
    """Return whether the bytes agree with the answer of validate, and their answer as text.

    Args:
        is_right: whether the kernel keeps the rules.
        unseen: the reason why no byte shows the mistake; None if a byte shows it.
        good: whether the answer of validate is right.
        document: the answer of the bytes; None if the guest gave none.
    """
    if document is None:
        return False, "no answer"
    wrong = [
        f"{case['name']} ({', '.join(map(str, broken_rules(case)))})"
        for case in document["cases"]
        if case["verdict"] == "wrong"
    ]
    if wrong:
        # If a byte is wrong on a right kernel, or if validate misses the mistake, one of the two checks is at fault.
        return good and not is_right, and_more(wrong)
    if is_right:
        return good, "right"
    return good and unseen is not None, f"nothing: {unseen or 'and the patch gives no reason'}"


def trouble(result: RunResult) -> str:
    """Return the failure of a guest in a few words."""
    if result.timed_out:
        return f"hung for {result.seconds:.0f} s"
    if result.splats:
        return f"reported a {result.splats[0].kind}"
    return "ended before the command did" if result.status is None else ""


def parse_json(text: str) -> dict[str, Any] | None:
    """Return the JSON document in *text*; None if *text* is not JSON."""
    try:
        document: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        return None
    return document


def and_more(texts: list[str]) -> str:
    """Return the first of *texts*, and the number of the others."""
    return texts[0] + (f" and {len(texts) - 1} more" if len(texts) > 1 else "")
