# SPDX-License-Identifier: MIT
"""Find the uses of a device through its driver, or through its memory without a driver.

Sources: crypto/proc.c; Documentation/ABI/stable/sysfs-module; /proc/iomem in Documentation/filesystems/proc.rst;
the controller misc in Documentation/admin-guide/cgroup-v2.rst; sev_dev_destroy() in drivers/crypto/ccp/sev-dev.c.
"""

import re
from collections.abc import Iterator, Set
from pathlib import Path

from iommufd_py.base.pci_address import is_bdf
from iommufd_py.base.sysfs import attribute_number, attribute_text, entries, target_name
from iommufd_py.base.units import counted
from iommufd_py.pci.functions import bound_driver
from iommufd_py.pci.users.memory import parse_resources
from iommufd_py.pci.users.use import Use, UseKind

_MODULES = Path("/sys/module")
_CRYPTO = Path("/proc/crypto")
_IOMEM = Path("/proc/iomem")
_CGROUPS = Path("/sys/fs/cgroup")
# The root of the controller in cgroup v2, in v2 beside v1, and in v1.
_MISC = ("misc.current", "unified/misc.current", "misc/misc.current")
# The names of these resources in drivers/firmware/sysfb_simplefb.c, drivers/video/fbdev and drivers/gpu/drm/sysfb.
_FIRMWARE_DISPLAYS = frozenset({"BOOTFB", "efifb", "vesafb", "simplefb", "simpledrm", "efidrm", "vesadrm"})


def crypto_uses(device: Path, crypto: Path = _CRYPTO, modules: Path = _MODULES) -> Iterator[Use]:
    """Yield a use if the kernel encrypts or hashes with the drivers of a device, for example for dm-crypt.

    The kernel does not show which of several equal devices it uses.
    """
    drivers = {target_name(one / "driver/module") for one in (device, *entries(device, "virtio*"))} - {""}
    found = [
        algorithm["driver"]
        for algorithm in parse_crypto(attribute_text(crypto))
        # One reference is that of the list itself.
        if int(algorithm["refcnt"]) > 1 and _belongs(algorithm["module"], drivers, modules)
    ]
    if found:
        yield Use(UseKind.STORAGE, f"the kernel encrypts or hashes with it ({', '.join(sorted(found))})")


def parse_crypto(text: str) -> list[dict[str, str]]:
    """Return the algorithms in /proc/crypto, each with its fields."""
    found = []
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.split("\n"))
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        if {"driver", "module", "refcnt"} <= fields.keys() and fields["refcnt"].isdecimal():
            found.append(fields)
    return found


def _belongs(module: str, drivers: Set[str], modules: Path) -> bool:
    """Return whether a module is one of *drivers*, or one uses the other, as qat_4xxx uses intel_qat."""
    names = {one: {holder.name for holder in entries(modules / one / "holders")} for one in {module, *drivers}}
    return module in drivers or bool(names[module] & drivers) or any(module in names[one] for one in drivers)


def guest_uses(device: Path, cgroups: Path = _CGROUPS) -> Iterator[Use]:
    """Yield a use if virtual machines have their memory encrypted by AMD's secure processor (SEV).

    The driver shuts its firmware down when it leaves the device, and these machines end. KVM holds no reference that
    the kernel shows, nor does the kernel show which of several devices has the secure processor.
    """
    if bound_driver(device) != "ccp":
        return
    texts = filter(None, (attribute_text(cgroups / name) for name in _MISC))
    guests = sum(map(int, re.findall(r"^sev(?:_es)? ([0-9]{1,20})$", next(texts, ""), re.MULTILINE)))
    if guests:
        machines = counted(guests, "virtual machine")
        yield Use(UseKind.PROCESS, f"the memory of {machines} can be encrypted by it (AMD SEV)")


def display_uses(device: Path, iomem: Path = _IOMEM) -> Iterator[Use]:
    """Yield the uses of a device's memory by others than its driver, such as the framebuffer of the firmware."""
    driver = bound_driver(device)
    if "vfio" in driver:  # It is taken already.
        return
    # Inside are also the resources of virtual functions, and what the firmware reserves.
    names = parse_resources(attribute_text(iomem)).get(device.name, ())
    inner = {name for name in names if not is_bdf(name) and name != "Reserved" and not name.startswith("pnp ")}
    for name in sorted(inner & _FIRMWARE_DISPLAYS):
        yield Use(UseKind.DISPLAY, f"the display of the firmware is in its memory ({name})")
    if not driver:
        for name in sorted(inner - _FIRMWARE_DISPLAYS):
            yield Use(UseKind.PLATFORM, f"the kernel uses its memory without a driver ({name} in /proc/iomem)")


def unknown_uses(device: Path) -> Iterator[Use]:
    """Yield a use if something refers to the module of a device's driver, and the module drives no other device.

    The kernel counts open files and users inside the kernel in this way, but does not name them. For example, a share
    of 9P stays in use after a lazy unmount, and processes in front of a container have a device of VFIO open. A virtio
    device has a driver of its own.
    """
    for one in (device, *entries(device, "virtio*")):
        module = (one / "driver/module").resolve()
        references = attribute_number(module / "refcnt") - len(entries(module / "holders"))
        driven = [
            bound for name in entries(module / "drivers") for bound in entries(name.resolve()) if _is_bound(bound)
        ]
        if references > 0 and len(driven) == 1:
            users = counted(references, "user")
            yield Use(
                UseKind.PROCESS, f"its driver {bound_driver(one)} has {users} that the kernel does not name (lsmod)"
            )


def _is_bound(device: Path) -> bool:
    return (device / "driver").exists()
