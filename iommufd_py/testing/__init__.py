# SPDX-License-Identifier: MIT
"""A pytest plugin for tests of iommufd and VFIO on a real kernel, ours and those of anyone's hardware runner.

pytest loads it by itself. A test takes what it needs by naming it:

    @pytest.mark.vtd(own_group=True)
    def test_my_device(vfio_device, ioas, dma_buffer):
        vfio_device.attach(vfio_device.alloc_hwpt(ioas))
        mapping = ioas.map(dma_buffer(2 << 20))
        ...

Fixtures: ``iommufd``, ``ioas``, ``mock_device``, ``vfio_device``, ``bdf``, ``container``, ``dma_buffer``. Markers:
``mock``, ``vtd``, ``hw``, ``disruptive``, ``expect_kernel_log``. ``pytest --fixtures`` and ``pytest --markers`` explain
them. Around every test that uses one of these stands the oracle: descriptors, pinned memory and page references must
be back where they were, and the kernel must not have complained.
"""
