# SPDX-License-Identifier: MIT
"""Removal of the texts that identify a machine and its users."""

import os
from pathlib import Path

import pytest

from iommufd_py.host.private import Private, private_values

PRIVATE = Private(
    {"lab7": "[host name]", "lab7.example.org": "[host name]", "ada": "[user]", "PF3X9K2Q": "[serial number]"}
)


@pytest.mark.parametrize(
    ("text", "removed"),
    [
        ("root@lab7.example.org", "root@[host name]"),
        ("LAB7: link up", "[host name]: link up"),
        ("lab70 and slab7 are others", "lab70 and slab7 are others"),
        ("/home/ada/run.json", "/home/[user]/run.json"),
        ("/home/grace/run.json", "/home/[user]/run.json"),
        ("a dad has no name", "a dad has no name"),
        ("serial pf3x9k2q.", "serial [serial number]."),
        ("usb 1-1: SerialNumber: 4C530001", "usb 1-1: SerialNumber: [serial number]"),
        ("root=/dev/disk/by-id/nvme-ACME_512_S5GXNX ro", "root=/dev/disk/by-id/[serial number] ro"),
        ("root=UUID=3e6be9de-8139-11ee-b962-0242ac120002 ro", "root=UUID=[UUID] ro"),
        ("systemd.machine_id=0123456789abcdef0123456789abcdef", "systemd.machine_id=[ID]"),
        ("eth0: 52:54:00:12:34:56", "eth0: [MAC address]"),
        ("ip=10.0.2.15::10.0.2.2", "ip=[IP address]::[IP address]"),
        ("from fe80::5054:ff:fe12:3456 port", "from [IP address] port"),
        ("2001:db8:0:1:1:1:1:1", "[IP address]"),
        # The facts that a report needs stay.
        ("vfio-pci 0000:3b:00.0: enabling device", "vfio-pci 0000:3b:00.0: enabling device"),
        ("DMAR: CAP=0xd2008c40660462 IOVA 0x100000000", "DMAR: CAP=0xd2008c40660462 IOVA 0x100000000"),
        ("Linux version 7.3.4-iommufd-lab, 12.2.0", "Linux version 7.3.4-iommufd-lab, 12.2.0"),
        ("12:34:56 batch::from_domain", "12:34:56 batch::from_domain"),
    ],
)
def test_removes(text: str, removed: str) -> None:
    assert PRIVATE.remove(text) == removed


def test_finds_what_identifies_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "grace")
    for name, content in {
        "sys/class/dmi/id/product_serial": "PF3X9K2Q\n",
        "sys/class/dmi/id/board_serial": "To Be Filled By O.E.M.\n",
        "sys/class/dmi/id/chassis_serial": "None\n",
        "sys/class/block/sda/device/serial": "S5GXNX0T\n",
        "sys/class/nvme/nvme0/serial": "2031E2\n",
        "etc/hostname": "lab7.example.org\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = private_values(tmp_path / "sys", tmp_path / "etc").values
    serials = {value for value, name in found.items() if name == "[serial number]"}
    assert serials == {"PF3X9K2Q", "S5GXNX0T", "2031E2"}
    assert {"lab7", "lab7.example.org", os.uname().nodename} <= {
        v for v, name in found.items() if name == "[host name]"
    }
    assert found["grace"] == "[user]"
