# SPDX-License-Identifier: MIT
"""Find the uses of a device by a console: the kernel's console and debugger, the text console, the keyboard."""

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries, target_name
from iommufd_py.pci.users.use import Use, UseKind

_CONSOLE_LIST = Path("/proc/consoles")
_GRAPHICS = Path("/sys/class/graphics")
_VT_CONSOLES = Path("/sys/class/vtconsole")
_TTYS = Path("/sys/class/tty")
_DEBUGGER = Path("/sys/module/kgdboc/parameters/kgdboc")
_INPUTS = Path("/proc/bus/input/devices")
# udev calls a device with all of the first 31 keys a keyboard (src/udev/udev-builtin-input_id.c).
_KEYS = 0xFFFFFFFE
_KEY_BITS = re.compile(r"B: KEY=(?:.* )?([0-9a-f]{1,16})")
# include/uapi/linux/fb.h: FBIOGET_CON2FBMAP takes a console and returns the number of its framebuffer.
_FBIOGET_CON2FBMAP = 0x460F
_CON2FB = struct.Struct("=II")
_CONSOLES = range(1, 64)


def console_uses(device: Path, listed: Path = _CONSOLE_LIST) -> Iterator[Use]:
    """Yield the consoles that use a device."""
    consoles = attribute_text(listed)
    for name, number in parse_consoles(consoles):
        if number and Path("/sys/dev/char", number).resolve().is_relative_to(device):
            yield Use(UseKind.CONSOLE, f"{name} is a console of the kernel")
    for name, _ in parse_consoles(consoles):
        # A hypervisor console has no link to its device, and only the console of a virtio device has one.
        if name.startswith("hvc") and _has_virtio_console(device):
            yield Use(UseKind.CONSOLE, f"{name} is a console of the kernel, and it can be on this device")
        # drivers/gpu/drm/clients/drm_log.c makes one for each display, without a terminal.
        if name.startswith("drm_log") and entries(device, "drm/card*"):
            yield Use(UseKind.CONSOLE, f"{name} is a console of the kernel, and it can be on this display")
    shown_by = _text_display(device)
    if shown_by:
        on_tty = "tty0" in dict(parse_consoles(consoles))
        which = "the kernel's console tty0" if on_tty else "the text console (tty1, ...)"
        yield Use(UseKind.CONSOLE, f"{which} is shown on it ({shown_by})")


def debugger_uses(device: Path, setting: Path = _DEBUGGER, ttys: Path = _TTYS) -> Iterator[Use]:
    """Yield the terminals of a device through which the kernel's debugger talks (Documentation/process/debugging/kgdb).

    The debugger polls them, and does not open them.
    """
    for word in attribute_text(setting).split(","):
        if word.startswith("tty") and (ttys / word).resolve().is_relative_to(device):
            yield Use(UseKind.CONSOLE, f"the kernel's debugger kgdb talks through {word}")


def keyboard_uses(device: Path, inputs: Path = _INPUTS, sysfs: Path = Path("/sys")) -> Iterator[Use]:
    """Yield a use if all keyboards of this machine are behind a device. A text console needs no process for them."""
    keyboards = parse_keyboards(attribute_text(inputs))
    if keyboards and all((sysfs / one).resolve().is_relative_to(device) for one in keyboards):
        yield Use(UseKind.CONSOLE, "every keyboard of this machine is behind it")


def parse_keyboards(text: str) -> list[str]:
    """Return the paths of the keyboards in /proc/bus/input/devices, relative to /sys."""
    found = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        keys = [match[1] for line in lines if (match := _KEY_BITS.fullmatch(line))]
        paths = [line.removeprefix("S: Sysfs=/") for line in lines if line.startswith("S: Sysfs=/")]
        if keys and int(keys[0], 16) & _KEYS == _KEYS:
            found += paths
    return found


def _has_virtio_console(device: Path) -> bool:
    children = [one for one in entries(device, "virtio*") if target_name(one / "driver") == "virtio_console"]
    # A port that programs use has a name; the kernel shows "(null)" for one without (drivers/char/virtio_console.c).
    names = (attribute_text(port / "name") for one in children for port in entries(one, "virtio-ports/*"))
    return any(name in ("", "(null)") for name in names)


def parse_consoles(text: str) -> list[tuple[str, str]]:
    """Return name and ``major:minor`` of each line of /proc/consoles; the number is empty for a console without one."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return [(row[0], row[-1] if ":" in row[-1] else "") for row in rows]


def _text_display(device: Path) -> str:
    """Return the means by which a display shows the text consoles; empty if it shows none."""
    drivers = [attribute_text(one / "name") for one in entries(_VT_CONSOLES) if attribute_text(one / "bind") == "1"]
    if any("VGA" in name for name in drivers) and attribute_text(device / "boot_vga") == "1":
        return "VGA text mode"
    if not any("frame buffer" in name for name in drivers):
        return ""
    buffers = entries(_GRAPHICS, "fb[0-9]*")
    if not buffers:  # A kernel without CONFIG_FB_DEVICE does not show which one.
        return "frame buffer" if entries(device, "drm/card*") else ""
    used = _buffers_of_consoles()
    for buffer in buffers:
        if buffer.name in used and buffer.resolve().is_relative_to(device):
            return buffer.name
    return ""


def _buffers_of_consoles() -> set[str]:
    """Return the names of the framebuffers that show a text console; without permission to ask, the first one."""
    try:
        descriptor = os.open("/dev/fb0", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {"fb0"}
    try:
        answers = (fcntl.ioctl(descriptor, _FBIOGET_CON2FBMAP, _CON2FB.pack(one, 0)) for one in _CONSOLES)
        return {f"fb{_CON2FB.unpack(answer)[1]}" for answer in answers}
    except OSError:
        return {"fb0"}
    finally:
        os.close(descriptor)
