# SPDX-License-Identifier: MIT
"""Consoles of the kernel, and the keyboard, on a device."""

from pathlib import Path

import pytest

from iommufd_py.pci.users import display
from tests.unit.pci.users.sysfs_tree import link, write_line


def test_debugger_on_a_serial_line(tmp_path: Path, device: Path) -> None:
    link(tmp_path / "class/tty/ttyS4", device / "0000:00:03.0:0/tty/ttyS4")
    setting = tmp_path / "kgdboc"
    write_line(setting, "kbd,ttyS4,115200")
    found = display.debugger_uses(device, setting, tmp_path / "class/tty")
    assert [use.text for use in found] == ["the kernel's debugger kgdb talks through ttyS4"]
    write_line(setting, "ttyS0")
    assert [*display.debugger_uses(device, setting, tmp_path / "class/tty")] == []


@pytest.mark.parametrize(("card", "used"), [(True, True), (False, False)])
def test_console_that_a_display_shows_without_a_terminal(tmp_path: Path, device: Path, card: bool, used: bool) -> None:
    """Such a console has no number in /proc/consoles, and the names are those of c_show() in fs/proc/consoles.c."""
    if card:
        (device / "drm/card1").mkdir(parents=True)
    consoles = tmp_path / "consoles"
    consoles.write_text("drm_log1             -W- (E  N  a)\nttyS9                -W- (EC p a)  254:77\n")
    text = "drm_log1 is a console of the kernel, and it can be on this display"
    assert [one.text for one in display.console_uses(device, consoles)] == ([text] if used else [])


INPUTS = """I: Bus=0019 Vendor=0000 Product=0001 Version=0000
N: Name="Power Button"
P: Phys=LNXPWRBN/button/input0
S: Sysfs=/devices/LNXSYSTM:00/LNXPWRBN:00/input/input0
U: Uniq=
H: Handlers=kbd event0
B: PROP=0
B: EV=3
B: KEY=8000 10000000000000 0

I: Bus=0003 Vendor=046d Product=c31c Version=0110
N: Name="Logitech USB Keyboard"
P: Phys=usb-0000:00:14.0-3/input0
S: Sysfs={}/usb1/1-3/1-3:1.0/0003:046D:C31C.0001/input/input5
U: Uniq=
H: Handlers=sysrq kbd leds event5
B: PROP=0
B: EV=120013
B: KEY=1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe
B: MSC=10
B: LED=1f
"""


SECOND = """
S: Sysfs=/devices/platform/i8042/serio0/input/input1
B: KEY=402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe
"""


def test_only_keyboard(tmp_path: Path, device: Path) -> None:
    inputs = tmp_path / "inputs"
    keyboards = INPUTS.format(f"/{device.relative_to(tmp_path)}")
    inputs.write_text(keyboards)
    found = [use.text for use in display.keyboard_uses(device, inputs, tmp_path)]
    assert found == ["every keyboard of this machine is behind it"]
    assert [*display.keyboard_uses(device.parent / "0000:00:04.0", inputs, tmp_path)] == []
    inputs.write_text(keyboards + SECOND)
    assert [*display.keyboard_uses(device, inputs, tmp_path)] == []
    inputs.write_text(f"{keyboards}\nS: Sysfs=/cut-off\nB: KEY=fffffffffffffffe ff9f207ac\n\nS: Sysfs=/odd\nB: KEY=x\n")
    assert len([*display.keyboard_uses(device, inputs, tmp_path)]) == 1
    inputs.write_text("")
    assert [*display.keyboard_uses(device, inputs, tmp_path)] == []


@pytest.mark.parametrize(("port", "console"), [("(null)", True), ("org.qemu.guest_agent.0", False)])
def test_console_of_virtio(tmp_path: Path, device: Path, port: str, console: bool) -> None:
    link(device / "virtio1/driver", tmp_path / "bus/virtio/drivers/virtio_console")
    write_line(device / "virtio1/virtio-ports/vport1p0/name", port)
    assert display._has_virtio_console(device) == console
    assert not display._has_virtio_console(device.parent)
