# SPDX-License-Identifier: MIT
"""The address of the coordinator."""

import re

import pytest

from iommufd_py.fleet.lending import LendingError, coordinator_address


@pytest.mark.parametrize(
    ("text", "address"),
    [("lab", "lab:20408"), ("lab:1", "lab:1"), ("10.0.0.1:5", "10.0.0.1:5"), ("[::1]:2", "[::1]:2")],
)
def test_an_address_gets_the_port_of_labgrid(text: str, address: str) -> None:
    assert coordinator_address(text) == address
    assert coordinator_address(address) == address


@pytest.mark.parametrize("text", ["", ":20408", "lab:port", "lab:99999", "::1", "\x1b[31m"])
def test_a_text_that_is_no_address_is_refused_before_a_worker_starts(text: str) -> None:
    with pytest.raises(LendingError, match=re.escape(f"{text!r} is not the address of a coordinator: write HOST or")):
        coordinator_address(text)
