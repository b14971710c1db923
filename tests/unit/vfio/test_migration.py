# SPDX-License-Identifier: MIT
"""The reasons for a refused change of a device's state, also those that no device of the lab gives."""

import pytest

from iommufd_py import MigrationFeatures, MigrationState
from iommufd_py.vfio.migration import _reason

ERROR, STOP, RUNNING = MigrationState.ERROR, MigrationState.STOP, MigrationState.RUNNING
STOP_COPY, RESUMING = MigrationState.STOP_COPY, MigrationState.RESUMING
PRE_COPY, PRE_COPY_P2P, RUNNING_P2P = MigrationState.PRE_COPY, MigrationState.PRE_COPY_P2P, MigrationState.RUNNING_P2P

ALL = ~MigrationFeatures(0)


@pytest.mark.parametrize(
    ("before", "state", "now", "features", "reason"),
    [
        (RUNNING, ERROR, RUNNING, ALL, "choose another state"),
        (ERROR, RUNNING, ERROR, ALL, "only a reset of the device leads out of ERROR"),
        (STOP, STOP_COPY, ERROR, ALL, "only a reset of the device leads out of ERROR"),
        (RUNNING, RUNNING_P2P, RUNNING, MigrationFeatures.STOP_COPY, "the device has no P2P;"),
        (RUNNING, PRE_COPY, RUNNING, MigrationFeatures.STOP_COPY, "the device has no PRE_COPY;"),
        (RUNNING, PRE_COPY_P2P, RUNNING, ALL & ~MigrationFeatures.P2P, "the device has no P2P;"),
        (STOP_COPY, PRE_COPY_P2P, STOP_COPY, ALL, "runs again first"),
        (RESUMING, RUNNING, RESUMING, ALL, "does not accept the state"),
        (RUNNING, STOP, RUNNING, ALL, "the driver refuses this change; its messages are in the kernel log"),
    ],
)
def test_each_refusal_has_its_reason(
    before: MigrationState, state: MigrationState, now: MigrationState, features: MigrationFeatures, reason: str
) -> None:
    assert reason in _reason(before, state, now, features)
