# SPDX-License-Identifier: MIT
"""Records of taken devices: damaged ones, and those of an older version."""

import pytest

from iommufd_py.pci.state import Remembered, parse_record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        "{}",
        '{"driver": "nvme"}',
        '{"driver": null, "driver_override": ""}',
        '{"driver": "../x", "driver_override": ""}',
        '{"driver": "..", "driver_override": ""}',
        '{"driver": "a\\u0000b", "driver_override": ""}',
        '{"driver": "a\\nb", "driver_override": ""}',
        '{"driver": "nvme", "driver_override": "", "since": "now"}',
        '{"driver": "nvme", "driver_override": "", "since": NaN}',
        '{"driver": "nvme", "driver_override": "", "since": 1e300}',
        '{"driver": "nvme", "driver_override": "", "since": -1}',
        '{"driver": "nvme", "driver_override": "", "pid": true}',
        '{"driver": "nvme", "driver_override": "", "pid": -5}',
        '{"driver": " ", "driver_override": ""}',
        "[" * 100_000,
    ],
)
def test_record_that_is_damaged(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_record(text)


def test_record_of_an_older_version() -> None:
    before = parse_record('{"driver": "nvme", "driver_override": ""}')
    assert before == Remembered("nvme", "", "vfio-pci", 0)
    assert (before.pid, before.since) == (0, 0.0)
