# SPDX-License-Identifier: MIT
"""The kernel configurations: fragments on top of allnoconfig, and a check that they took effect."""

import re
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Literal

Arch = Literal["x86_64", "um"]

CONFIGS = Path(str(resources.files("iommufd_py.lab") / "configs"))
"""Directory of the fragments."""

_FRAGMENTS: dict[Arch, str] = {"x86_64": "vtd.config", "um": "uml.config"}

_REQUIRED: dict[Arch, frozenset[str]] = {
    "x86_64": frozenset(
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
    ),
    "um": frozenset(
        {"CONFIG_DEVTMPFS", "CONFIG_HOSTFS", "CONFIG_IOMMUFD", "CONFIG_IOMMUFD_TEST", "CONFIG_STDERR_CONSOLE"}
    ),
}


def needed_for_root() -> frozenset[str]:
    """Return the symbols that a bzImage needs built in (=y) to mount the root file system of a guest."""
    return frozenset(one for one in _REQUIRED["x86_64"] if "9P" in one or "VIRTIO" in one or "OVERLAY" in one)


# More symbols that a kernel needs, by the name of the addition.
_ADDED_REQUIRED = {
    "debug": frozenset(
        {"CONFIG_DEBUG_ATOMIC_SLEEP", "CONFIG_DEBUG_LIST", "CONFIG_KASAN", "CONFIG_PROVE_LOCKING", "CONFIG_STACKTRACE"}
    ),
    "kunit": frozenset({"CONFIG_IOMMU_PT_KUNIT_TEST"}),
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """One of the lab's kernel configurations.

    Attributes:
        arch: ``x86_64`` for the virtual machine with VT-d; ``um`` for User-Mode Linux, a kernel that is a process of
            this machine and has no devices but those of the mock driver and of the sample driver mtty.
        debug: with lockdep, KASAN and similar checks, which make a kernel slow.
        devices: with all kinds of users of a PCI device (RAID, bridges, namespaces, a text console), and lockdown.
        kunit: with the KUnit tests of the IOMMU's page tables, which run at boot.
    """

    arch: Arch = "x86_64"
    debug: bool = False
    devices: bool = False
    kunit: bool = False

    @property
    def name(self) -> str:
        """The part of a kernel's name that tells its configuration: ``um``, ``um-debug``, ``devices``, or nothing."""
        return "-".join([*(["um"] if self.arch == "um" else []), *self.additions])

    @property
    def additions(self) -> tuple[str, ...]:
        """The names of the fragments on top of the architecture's, without their ending."""
        return tuple(name for name in ADDITIONS if getattr(self, name))

    def label(self, variant: str) -> str:
        """Return the name of a kernel for readers: ``stock``, ``patched-debug``, ``patched-um``, ..."""
        return "-".join(filter(None, (variant, self.name)))

    @property
    def fragment(self) -> str:
        """The text of the fragments. A later line overrides an earlier one."""
        names = [_FRAGMENTS[self.arch], *(f"{name}.config" for name in self.additions)]
        return "".join((CONFIGS / name).read_text(encoding="utf-8") for name in names)

    @property
    def required(self) -> frozenset[str]:
        """Symbols that a kernel needs to boot in the lab, or to be of use there."""
        further = [_ADDED_REQUIRED[name] for name in self.additions if name in _ADDED_REQUIRED]
        return _REQUIRED[self.arch].union(*further)


ADDITIONS = tuple(one.name for one in fields(Configuration) if one.name != "arch")
"""The names of all additions of this version of the tool."""


@dataclass(frozen=True, slots=True)
class ConfigDifferences:
    """The differences between a configuration and the fragment it was made from.

    Attributes:
        dropped: symbols of this series that did not get their value, because a dependency is not met.
        unknown: symbols that this series does not have.
    """

    dropped: tuple[str, ...]
    unknown: tuple[str, ...]

    def missing(self, required: frozenset[str]) -> tuple[str, ...]:
        """Return the symbols of *required* that were dropped or are unknown."""
        return tuple(sorted(required & {*self.dropped, *self.unknown}))


def parse_config(text: str) -> dict[str, str]:
    """Return the symbols of a configuration or fragment with their values, ``n`` for one that is not set."""
    symbols: dict[str, str] = {}
    for set_name, value, unset_name in re.findall(
        r"^(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$", text, re.MULTILINE
    ):
        symbols[set_name or unset_name] = value or "n"
    return symbols


def check_config(wanted: str, got: str, messages: str) -> ConfigDifferences:
    """Compare the text of a fragment with that of the configuration made from it.

    Args:
        wanted: the fragment.
        got: the resulting ``.config``.
        messages: output of Kconfig, with KCONFIG_WARN_UNKNOWN_SYMBOLS set.
    """
    result = parse_config(got)
    unknown = {f"CONFIG_{name}" for name in re.findall(r"unknown symbol: (\w+)", messages)}
    differing = {name for name, value in parse_config(wanted).items() if result.get(name, "n") != value}
    return ConfigDifferences(tuple(sorted(differing - unknown)), tuple(sorted(unknown)))
