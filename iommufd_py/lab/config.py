# SPDX-License-Identifier: MIT
"""The kernel configuration: a fragment over allnoconfig, and whether it took effect."""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

__all__ = ["REQUIRED", "Check", "check_config", "fragment", "parse_config"]

REQUIRED = frozenset(
    {
        "CONFIG_9P_FS",
        "CONFIG_DEVTMPFS_MOUNT",
        "CONFIG_INTEL_IOMMU",
        "CONFIG_IOMMUFD",
        "CONFIG_IOMMUFD_TEST",
        "CONFIG_IRQ_REMAP",
        "CONFIG_NET_9P_VIRTIO",
        "CONFIG_OVERLAY_FS",
        "CONFIG_SERIAL_8250_CONSOLE",
        "CONFIG_VFIO_DEVICE_CDEV",
        "CONFIG_VFIO_PCI",
        "CONFIG_VIRTIO_CONSOLE",
        "CONFIG_VIRTIO_PCI",
    }
)
"""Symbols without which a kernel does not boot in the lab, or has nothing to show there."""


@dataclass(frozen=True, slots=True)
class Check:
    """How a configuration differs from the fragment it was made from.

    Attributes:
        dropped: symbols that the tree knows but that did not get their value, by a dependency that is not met.
        unknown: symbols that this series does not have.
    """

    dropped: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The required symbols among both."""
        return tuple(sorted(REQUIRED & {*self.dropped, *self.unknown}))


def fragment() -> Path:
    """Return the fragment for the machine with VT-d."""
    return Path(str(resources.files("iommufd_py.lab") / "configs/vtd.config"))


def parse_config(text: str) -> dict[str, str]:
    """Return the symbols of a configuration or fragment with their values, ``n`` for one that is not set."""
    symbols: dict[str, str] = {}
    for set_name, value, unset_name in re.findall(
        r"^(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$", text, re.MULTILINE
    ):
        symbols[set_name or unset_name] = value or "n"
    return symbols


def check_config(wanted: str, got: str, messages: str) -> Check:
    """Compare the text of a fragment with that of the configuration made from it.

    Args:
        wanted: the fragment.
        got: the resulting ``.config``.
        messages: what Kconfig said, with KCONFIG_WARN_UNKNOWN_SYMBOLS set.
    """
    result = parse_config(got)
    unknown = {f"CONFIG_{name}" for name in re.findall(r"unknown symbol: (\w+)", messages)}
    differing = {name for name, value in parse_config(wanted).items() if result.get(name, "n") != value}
    return Check(tuple(sorted(differing - unknown)), tuple(sorted(unknown)))
