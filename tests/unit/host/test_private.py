# SPDX-License-Identifier: MIT
"""Removal of the texts that identify a machine and its users."""

import json
import os
import time
from pathlib import Path

import pytest

from iommufd_py.host.private import Private, private_values
from tests.files import write_files
from tests.waiting import patience

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
        ("/srv/lab7_runs/lab7-old", "/srv/[host name]_runs/[host name]-old"),
        ("eth0: MAC 52:54:00:12:34:56: up", "eth0: MAC [MAC address]: up"),
        ("HWaddr:52:54:00:12:34:56", "HWaddr:[MAC address]"),
        ("52-54-00-12-34-56", "[MAC address]"),
        ("enx525400123456: renamed", "enx[MAC address]: renamed"),
        ("80:00:02:08:fe:80:00:00:00:00:00:00:f4:52:14:03:00:7b:cb:a1", "[MAC address]"),
        ("node guid 0002:c903:000f:1234", "node guid [ID]"),
        ("sas_address(0x4433221100000000)", "sas_address([ID])"),
        ("wwn-0x5000c500a1b2c3d4 naa.5000c500a1b2c3d4", "wwn-[ID] naa.[ID]"),
        ("md_uuid_3e6be9de-8139-11ee-b962-0242ac120002", "md_uuid_[UUID]"),
        ("UUID=ABCD-1234 PARTUUID=1a2b3c4d-02", "UUID=[UUID] PARTUUID=[UUID]"),
        ("AbCdEf-1234-5678-abcd-EFGH-ijkl-mNoPqR", "[UUID]"),
        (f"dm-uuid-LVM-{'aB3x' * 16}", "dm-uuid-LVM-[ID]"),
        ("from 10.0.0.1.", "from [IP address]."),
        ("eth0_10.0.0.1_x", "eth0_[IP address]_x"),
        ("2001:db8:1:2::/64", "[IP address]/64"),
        ("host 2001:db8::1: up", "host [IP address]: up"),
        ("addr:fe80::1", "addr:[IP address]"),
        ("SerialNumber: ABC 123 XYZ", "SerialNumber: [serial number]"),
        ('{"serial": "XX12", "size": 4}', '{"serial": "[serial number]", "size": 4}'),
        ("-device nvme,serial=XX12,id=a", "-device nvme,serial=[serial number],id=a"),
        ("S/N: XX1234567", "S/N: [serial number]"),
        ("/run/media/grace/DISK", "/run/media/[user]/DISK"),
        ("Linux version 7.3.4 (grace@forge) (gcc 14)", "Linux version 7.3.4 ([user]@[host name]) (gcc 14)"),
        ("by grace@build.example.com", "by [mail address]"),
        ("iscsi=iqn.1994-05.com.redhat:abcdef", "iscsi=[ID]"),
        (
            "ip=10.0.0.2::10.0.0.1:255.0.0.0:lab9:eth0:off",
            "ip=[IP address]::[IP address]:[IP address]:[host name]:eth0:off",
        ),
        ("systemd.hostname=lab9 quiet", "systemd.hostname=[host name] quiet"),
        ("Hostname set to <lab9.lan>.", "Hostname set to <[host name]>."),
        ("nfsroot=server.lan:/srv", "nfsroot=[host name]:/srv"),
        ('audit: acct="grace"', 'audit: acct="[user]"'),
        (
            "rd.iscsi.password=S3cret rd.iscsi.in.password=x ro",
            "rd.iscsi.password=[secret] rd.iscsi.in.password=[secret] ro",
        ),
        ("inst.ks=https://kick:S3cret@server/a.ks quiet", "inst.ks=https://[secret]@server/a.ks quiet"),
        ("coreos.token=abc-1 api_key=k3y", "coreos.token=[secret] api_key=[secret]"),
        # The facts that a report needs stay.
        ("tokens: 3, secretly=5, url http://server/a@b", "tokens: 3, secretly=5, url http://server/a@b"),
        ("vfio-pci.ids=8086:100e:1af4:1100", "vfio-pci.ids=8086:100e:1af4:1100"),
        ("0000:3b:00.0:pcie001: link", "0000:3b:00.0:pcie001: link"),
        ("RIP: 0010:iopt_map+0x12/0x40", "RIP: 0010:iopt_map+0x12/0x40"),
        ("usb 1-1: Mfr=3, Product=2, SerialNumber=", "usb 1-1: Mfr=3, Product=2, SerialNumber="),
        ("Serial: 8250/16550 driver, 4 ports", "Serial: 8250/16550 driver, 4 ports"),
        ("Starting getty@tty1.service", "Starting getty@tty1.service"),
        ("commit 2f064a59a11ff9bc22e52e9678bc601404c7cb34", "commit 2f064a59a11ff9bc22e52e9678bc601404c7cb34"),
        ("vfio-pci 0000:3b:00.0: enabling device", "vfio-pci 0000:3b:00.0: enabling device"),
        ("DMAR: CAP=0xd2008c40660462 IOVA 0x100000000", "DMAR: CAP=0xd2008c40660462 IOVA 0x100000000"),
        ("Linux version 7.3.4-iommufd-lab, 12.2.0", "Linux version 7.3.4-iommufd-lab, 12.2.0"),
        ("12:34:56 batch::from_domain", "12:34:56 batch::from_domain"),
    ],
)
def test_removes(text: str, removed: str) -> None:
    assert PRIVATE.remove(text) == removed


def test_removes_the_form_that_a_text_has_in_json() -> None:
    private = Private({"Zoë": "[user]"})
    assert private.remove(json.dumps({"label": "Zoë"})) == '{"label": "[user]"}'
    assert private.remove("Zoë") == "[user]"


@pytest.mark.parametrize("piece", [".", "a-", "_", "1.", "aa:", "::", "ip=", "guid_", "a@", "-"])
def test_a_long_line_takes_no_square_time(piece: str) -> None:
    start = time.process_time()
    PRIVATE.remove(piece * 30_000)
    assert time.process_time() - start < patience(3)


def test_finds_what_identifies_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "grace")
    files = {
        "sys/class/dmi/id/product_serial": "PF3X9K2Q\n",
        "sys/class/dmi/id/board_serial": "To Be Filled By O.E.M.\n",
        "sys/class/dmi/id/chassis_serial": "None\n",
        "sys/class/block/sda/device/serial": "S5GXNX0T\n",
        "sys/class/nvme/nvme0/serial": "2031E2\n",
        "etc/hostname": "lab7.example.org\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 ip6-localhost\n10.0.0.7 lab7-mgmt alias7  # rack9\n",
        "etc/resolv.conf": "search corp.example.net lan\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nhopper:x:1000:1000:Grace Hopper,,,:/home/hopper:/bin/sh\n"
        "debian:x:1001:1001::/home/debian:/bin/sh\nbroken\n",
    }
    write_files(tmp_path, files)
    found = private_values(tmp_path / "sys", tmp_path / "etc").values
    serials = {value for value, name in found.items() if name == "[serial number]"}
    assert serials == {"PF3X9K2Q", "S5GXNX0T", "2031E2"}
    assert {"lab7", "lab7.example.org", os.uname().nodename} <= {
        v for v, name in found.items() if name == "[host name]"
    }
    assert {value for value, name in found.items() if name == "[host name]"} >= {"lab7-mgmt", "alias7"}
    assert {value for value, name in found.items() if name == "[domain]"} >= {"example.org", "corp.example.net"}
    assert {value for value, name in found.items() if name == "[user]"} >= {"grace", "hopper", "Grace Hopper"}
    assert not {"root", "debian", "localhost", "ip6-localhost", "rack9", "lan", ""} & set(found)
