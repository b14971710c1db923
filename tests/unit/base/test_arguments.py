# SPDX-License-Identifier: MIT
import math

import pytest

from iommufd_py import ArgumentValueError
from iommufd_py.base.arguments import milliseconds

LONGEST = (1 << 31) - 1


@pytest.mark.parametrize(
    ("seconds", "found"),
    [(None, None), (0, 0), (0.0001, 1), (1, 1000), (1.5, 1500), (math.inf, LONGEST), (1 << 31, LONGEST)],
)
def test_a_timeout_in_milliseconds(seconds: float | None, found: int | None) -> None:
    assert milliseconds("timeout", seconds) == found


def test_a_number_that_no_float_holds_is_a_timeout_too() -> None:
    assert milliseconds("timeout", 10**400) == LONGEST
    for wrong in (-(10**400), math.nan, -0.001):
        with pytest.raises(ArgumentValueError, match="timeout must be 0 or more seconds"):
            milliseconds("timeout", wrong)
