# SPDX-License-Identifier: MIT
"""The cases of tools/testing/selftests/vfio/vfio_pci_device_test.c: fixture vfio_pci_irq_test, and also INTx."""

import errno
import os

import pytest

from iommufd_py import Container, IrqIndex
from tests.waiting import patience

# Maximum number of vectors, because there are few interrupt remapping entries.
MAX_TEST_MSI = 16


@pytest.mark.parametrize("index", [IrqIndex.MSI, IrqIndex.MSIX, IrqIndex.INTX], ids=["msi", "msix", "intx"])
def test_enable_trigger_disable(container: Container, index: IrqIndex) -> None:
    count = min(container.device.irq_info(index).count, MAX_TEST_MSI)
    if not count:
        pytest.skip(f"{container.device.bdf} has no {index.name}")
    with container.device.enable_irqs(index, count) as irqs:
        for vector, eventfd in enumerate(irqs.eventfds):
            with pytest.raises(BlockingIOError):
                os.eventfd_read(eventfd)
            irqs.trigger(vector)
            assert irqs.wait(vector, timeout=patience(1)) == 1
        irqs.trigger()
        assert [irqs.wait(vector, timeout=patience(1)) for vector in range(count)] == [1] * count
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        os.eventfd_read(irqs.eventfds[0])
    assert caught.value.errno == errno.EBADF
    # only disabled interrupts can be enabled again
    container.device.enable_irqs(index, count).close()
