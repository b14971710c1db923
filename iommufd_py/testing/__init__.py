# SPDX-License-Identifier: MIT
"""A pytest plugin for tests of iommufd and VFIO on a real kernel, in this project and on any hardware runner.

pytest loads the plugin by itself. A test names the fixtures that it needs:

    @pytest.mark.vtd(own_group=True)
    def test_my_device(vfio_device, ioas, dma_buffer):
        vfio_device.attach(vfio_device.alloc_hwpt(ioas))
        mapping = ioas.map(dma_buffer(2 << 20))
        ...

Fixtures: ``iommufd``, ``ioas``, ``mock_device``, ``vfio_device``, ``bdf``, ``container``, ``dma_buffer``. Markers:
``mock``, ``vtd``, ``hw``, ``disruptive``, ``expect_kernel_log``. ``pytest --fixtures`` and ``pytest --markers`` explain
them. The plugin checks the state around every test that uses one of these. After the test, descriptors, pinned memory
and page references must be as before, and the kernel must not have reported a fault.
"""
