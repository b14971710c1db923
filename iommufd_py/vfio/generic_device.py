# SPDX-License-Identifier: MIT
"""A VFIO device of any bus: its regions, interrupts, features and migration."""

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import DeviceError, InvalidFieldError, UnsupportedIoctlError
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import DeviceFeature, FeatureOperation, IrqIndex, MigrationFeatures, RegionIndex
from iommufd_py.uapi.migration import device_migration
from iommufd_py.vfio.file import VfioFile
from iommufd_py.vfio.interrupt import Interrupts
from iommufd_py.vfio.migration import Migration
from iommufd_py.vfio.region import Region


class GenericVfioDevice(VfioFile):
    """A VFIO device of any bus: the part that is common to :class:`VfioPciDevice` and :class:`MediatedDevice`.

    Source: VFIO_DEVICE_* in include/uapi/linux/vfio.h.
    """

    def info(self) -> vfio.DeviceInfo:
        """Return the device's flags, number of regions and interrupts, and capabilities."""
        return vfio.device_get_info(self.fileno())

    def reset(self) -> None:
        """Reset the device.

        Raises:
            IommufdError: the device has no reset method that VFIO may use.
        """
        vfio.device_reset(self.fileno())

    @checked
    def region(self, index: RegionIndex | int) -> Region:
        """Return a region. A region that the device does not have is 0 bytes long."""
        return Region(self, index)

    @checked
    def enable_irqs(self, index: IrqIndex, count: int = 1) -> Interrupts:
        """Enable the first *count* interrupts of a kind, each with its own eventfd."""
        return Interrupts(self, index, count)

    def migration_features(self) -> MigrationFeatures:
        """Return the kinds of migration that the device supports, empty for none."""
        try:
            return device_migration(self.fileno())
        except UnsupportedIoctlError:
            return MigrationFeatures(0)

    def migration(self) -> Migration:
        """Return the migration of the device.

        Raises:
            DeviceError: the device has none.
        """
        features = self.migration_features()
        if not features:
            raise DeviceError(
                f"{self.name} cannot be migrated: its driver has no migration, as vfio-pci has none; bind it to a VFIO "
                "driver of its own kind, such as mlx5_vfio_pci"
            )
        return Migration(self, features)

    @checked
    def has_feature(self, feature: DeviceFeature | int, operation: FeatureOperation) -> bool:
        """Return whether the device supports *operation* of *feature*. The call changes nothing."""
        try:
            vfio.device_feature(self.fileno(), feature | operation | FeatureOperation.PROBE)
        # ENOTTY: no such feature. EINVAL: it lacks this operation (vfio_check_feature() in include/linux/vfio.h).
        except (UnsupportedIoctlError, InvalidFieldError):
            return False
        return True

    @checked
    def get_feature(self, feature: DeviceFeature | int, data: bytes) -> bytes:
        """Get a feature: *data* is its structure with the in-fields set; returns it with the out-fields set."""
        return vfio.device_feature(self.fileno(), feature | FeatureOperation.GET, data)

    @checked
    def set_feature(self, feature: DeviceFeature | int, data: bytes = b"") -> None:
        """Set a feature; *data* is its structure."""
        vfio.device_feature(self.fileno(), feature | FeatureOperation.SET, data)
