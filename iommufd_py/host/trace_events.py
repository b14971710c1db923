# SPDX-License-Identifier: MIT
"""Read the fields of the kernel's trace events about IOMMUs from their printed text. Pure.

Source: TP_printk() in include/trace/events/iommu.h and drivers/iommu/intel/trace.h.
"""

import re

_PAIR = re.compile(r"\b(\w++)=(\S+)")
_RANGE = re.compile(r"\biova=(0x[0-9a-f]+) - (0x[0-9a-f]+)")
_FORMS = (
    # iommu:io_page_fault
    re.compile(r"(?P<driver>\S+) (?P<device>\S+) iova=(?P<iova>0x[0-9a-f]+) flags=(?P<flags>0x[0-9a-f]+)"),
    # intel_iommu:cache_tag_flush_range, cache_tag_flush_range_np
    re.compile(
        r"(?P<iommu>\S+) (?P<device>\S+)\[(?P<pasid>\d+)\] type (?P<type>\S+) did (?P<did>\d+) "
        r"\[(?P<start>0x[0-9a-f]+)-(?P<end>0x[0-9a-f]+)\] addr (?P<addr>0x[0-9a-f]+) mask (?P<mask>0x[0-9a-f]+)"
    ),
    # intel_iommu:cache_tag_flush_all
    re.compile(
        r"(?P<iommu>[^\s/]+)/(?P<device>\S+) type (?P<type>\S+) did (?P<did>\d+) pasid (?P<pasid>\d+) ref (?P<ref>\d+)"
    ),
)


def event_fields(text: str) -> dict[str, int | str]:
    """Return the fields of an event by name; numbers are converted.

    A range of IOVAs becomes ``iova`` and ``iova_end``, which is the first address after the range.
    """
    plain = text.removeprefix("IOMMU:").strip()
    for form in _FORMS:
        match = form.fullmatch(plain)
        if match:
            return {name: _value(value) for name, value in match.groupdict().items()}
    found = pair_fields(plain)
    span = _RANGE.search(plain)
    if span:
        found |= {"iova": _value(span[1]), "iova_end": _value(span[2])}
    return found


def pair_fields(text: str) -> dict[str, int | str]:
    """Return the ``name=value`` pairs of a text; numbers are converted."""
    return {name: _value(value) for name, value in _PAIR.findall(text)}


def _value(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text
