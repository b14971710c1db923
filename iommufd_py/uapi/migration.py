# SPDX-License-Identifier: MIT
"""The ioctls of VFIO that migrate a device (include/uapi/linux/vfio.h)."""

from iommufd_py.uapi.call import issue_argsz, pack, unpack
from iommufd_py.uapi.enums import DeviceFeature, FeatureOperation, MigrationFeatures, MigrationState
from iommufd_py.uapi.vfio import device_feature


def device_migration(fd: int) -> MigrationFeatures:
    """Return which kinds of migration a device supports."""
    data = pack("vfio_device_feature_migration")
    answer = device_feature(fd, DeviceFeature.MIGRATION | FeatureOperation.GET, data)
    return MigrationFeatures(int(unpack("vfio_device_feature_migration", answer).flags))


def get_mig_device_state(fd: int) -> MigrationState:
    """Return the state of a device's migration."""
    data = pack("vfio_device_feature_mig_state")
    answer = device_feature(fd, DeviceFeature.MIG_DEVICE_STATE | FeatureOperation.GET, data)
    return MigrationState(int(unpack("vfio_device_feature_mig_state", answer).device_state))


def set_mig_device_state(fd: int, state: MigrationState) -> int:
    """Change the state of a device's migration. Return the descriptor for the data if the change begins a transfer, or
    -1."""
    fields = {"device_state": int(state)}
    data = pack("vfio_device_feature_mig_state", **fields)
    answer = device_feature(fd, DeviceFeature.MIG_DEVICE_STATE | FeatureOperation.SET, data, **fields)
    return int(unpack("vfio_device_feature_mig_state", answer).data_fd)


def device_mig_data_size(fd: int) -> int:
    """Return the driver's estimate of the bytes of the data in the state STOP_COPY."""
    data = pack("vfio_device_feature_mig_data_size")
    answer = device_feature(fd, DeviceFeature.MIG_DATA_SIZE | FeatureOperation.GET, data)
    return int(unpack("vfio_device_feature_mig_data_size", answer).stop_copy_length)


def mig_get_precopy_info(data_fd: int) -> tuple[int, int]:
    """Return how many initial bytes and how many dirty bytes can be read from a transfer while the device runs."""
    arg = issue_argsz(data_fd, "VFIO_MIG_GET_PRECOPY_INFO", "vfio_precopy_info")
    return int(arg.initial_bytes), int(arg.dirty_bytes)
