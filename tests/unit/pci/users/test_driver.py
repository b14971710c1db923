# SPDX-License-Identifier: MIT
"""Uses of a device through its driver, or through its memory, in trees of sysfs and procfs as the kernel makes them."""

from pathlib import Path

import pytest

from iommufd_py.pci.users.driver import crypto_uses, display_uses, guest_uses, parse_crypto, unknown_uses
from iommufd_py.pci.users.parts import remote_uses
from tests.unit.pci.users.sysfs_tree import link, write_line

CRYPTO = """name         : cbc(aes)
driver       : qat_aes_cbc
module       : intel_qat
priority     : 4001
refcnt       : {}
selftest     : passed

name         : __cbc(aes)
driver       : __cbc-aes-aesni
module       : aesni_intel
refcnt       : 5

name         : stdrng
module       : kernel
"""

IOMEM = """a0000000-afffffff : PCI Bus 0000:00
  a0000000-a0ffffff : 0000:00:03.0
    a0000000-a07e8fff : BOOTFB
  a1000000-a10fffff : 0000:00:03.0
    a1000000-a1003fff : {}
  a2000000-a2ffffff : 0000:00:04.0
    a2000000-a2003fff : nvme
"""


@pytest.mark.parametrize(
    ("driver", "module", "holders", "references", "used"),
    [
        ("4xxx", "intel_qat", {"intel_qat": ["intel_qat_user"]}, 3, True),
        ("4xxx", "qat_4xxx", {"intel_qat": ["qat_4xxx"]}, 3, True),
        ("4xxx", "qat_4xxx", {"intel_qat": ["qat_4xxx"]}, 1, False),
        ("ccp", "ccp", {"ccp": ["intel_qat"]}, 2, True),
        ("nvme", "nvme", {"intel_qat": ["qat_4xxx"]}, 3, False),
        ("nvme", "", {}, 3, False),
    ],
)
def test_encryption_in_the_kernel(
    tmp_path: Path, device: Path, driver: str, module: str, holders: dict[str, list[str]], references: int, used: bool
) -> None:
    """An algorithm's module is the driver of the device, a library that this needs, or one that needs the driver."""
    crypto = tmp_path / "crypto"
    crypto.write_text(CRYPTO.format(references))
    for name, above in holders.items():
        for one in above:
            link(tmp_path / "module" / name / "holders" / one, tmp_path / "module" / one)
    link(device / "driver", tmp_path / "drivers" / driver)
    if module:
        link(tmp_path / "drivers" / driver / "module", tmp_path / "module" / module)
    text = "the kernel encrypts or hashes with it (qat_aes_cbc)"
    assert [use.text for use in crypto_uses(device, crypto, tmp_path / "module")] == ([text] if used else [])


def test_table_of_algorithms_that_is_cut_off() -> None:
    assert parse_crypto("") == []
    assert [one["driver"] for one in parse_crypto(CRYPTO.format("x") + "\n\nname : a")] == ["__cbc-aes-aesni"]


@pytest.mark.parametrize("place", ["misc.current", "unified/misc.current", "misc/misc.current"])
@pytest.mark.parametrize(
    ("driver", "text", "said"),
    [
        ("ccp", "sev 1\nsev_es 2", ["the memory of 3 virtual machines can be encrypted by it (AMD SEV)"]),
        ("ccp", "sev 0\nsev_es 0", []),
        ("ccp", "tdx 4", []),
        ("ccp", "", []),
        ("nvme", "sev 1", []),
    ],
)
def test_virtual_machines_with_encrypted_memory(
    tmp_path: Path, device: Path, place: str, driver: str, text: str, said: list[str]
) -> None:
    """misc_cg_current_show() in kernel/cgroup/misc.c; sev_asid_new() of KVM counts each machine there."""
    link(device / "driver", tmp_path / "drivers" / driver)
    write_line(tmp_path / "cgroup" / place, text)
    assert [use.text for use in guest_uses(device, tmp_path / "cgroup")] == said
    assert [*guest_uses(device, tmp_path / "none")] == []


@pytest.mark.parametrize(
    ("driver", "inner", "found"),
    [
        ("", "i2c_designware.0", ["(BOOTFB)", "(i2c_designware.0 in /proc/iomem)"]),
        ("i915", "i915", ["(BOOTFB)"]),
        ("", "0000:00:03.1", ["(BOOTFB)"]),
        ("", "pnp 00:02", ["(BOOTFB)"]),
        ("vfio-pci", "vfio-pci", []),
    ],
)
def test_memory_of_a_device_in_use_by_others(
    tmp_path: Path, device: Path, driver: str, inner: str, found: list[str]
) -> None:
    """The display of the firmware is no device below its graphics card before Linux 6.9."""
    iomem = tmp_path / "iomem"
    iomem.write_text(IOMEM.format(inner))
    if driver:
        link(device / "driver", tmp_path / "drivers" / driver)
    texts = [use.text for use in display_uses(device, iomem)]
    assert len(texts) == len(found) and all(text.endswith(end) for text, end in zip(texts, found, strict=True))
    link(device.parent / "0000:00:04.0/driver", tmp_path / "drivers/nvme")
    assert [*display_uses(device.parent / "0000:00:04.0", iomem)] == []


@pytest.mark.parametrize(
    ("references", "holders", "others", "said"),
    [
        ("3", 1, 0, "its driver x has 2 users that the kernel does not name (lsmod)"),
        ("1", 1, 0, ""),
        ("3", 1, 1, ""),
        ("", 0, 0, ""),
    ],
)
def test_users_of_a_module(tmp_path: Path, device: Path, references: str, holders: int, others: int, said: str) -> None:
    """If the module drives several devices, its users can be those of another one."""
    module, driver = tmp_path / "module/x", tmp_path / "bus/pci/drivers/x"
    if references:
        write_line(module / "refcnt", references)
    for number in range(holders):
        link(module / "holders" / f"x{number}", tmp_path / "module" / f"x{number}")
    link(module / "drivers/pci:x", driver)
    link(driver / "module", module)
    for path in (device, *(device.parent / f"0000:00:0{number}.0" for number in range(4, 4 + others))):
        link(driver / path.name, path)
        link(path / "driver", driver)
    assert [use.text for use in unknown_uses(device)] == ([said] if said else [])


@pytest.mark.parametrize(("child", "name"), [("virtio3", "9pnet_virtio"), ("", "vfio-pci")])
def test_users_of_a_driver_that_hold_nothing_of_the_device(tmp_path: Path, device: Path, child: str, name: str) -> None:
    """p9_virtio_remove() waits without end for a share that was unmounted lazily, and vfio_pci_remove() for a user."""
    module, driver = tmp_path / "module/x", tmp_path / "bus/drivers" / name
    write_line(module / "refcnt", "1")
    link(module / "drivers/x", driver)
    link(driver / "module", module)
    link(driver / "one", device / child)
    link(device / child / "driver", driver)
    text = f"its driver {name} has 1 user that the kernel does not name (lsmod)"
    assert [use.text for use in unknown_uses(device)] == [text]
    write_line(module / "refcnt", "0")
    assert [*unknown_uses(device)] == []


def test_users_at_the_other_end(tmp_path: Path, device: Path) -> None:
    classes, exported, elsewhere = tmp_path / "class", tmp_path / "usbip-host", device.parent / "0000:00:04.0"
    for path, name in ((device, "hci0"), (elsewhere, "hci1")):
        link(classes / "bluetooth" / name, path / "usb1/bluetooth" / name)
        link(classes / "bluetooth" / f"{name}:256", path / "usb1/bluetooth" / name / f"{name}:256")
    for path, name, status in ((device, "1-1", "2"), (device, "1-2", "1"), (elsewhere, "2-1", "2")):
        write_line(path / "usb1" / name / "usbip_status", status)
        link(exported / name, path / "usb1" / name)
    for path, name, gadget in ((device, "dwc3.0", "g1"), (device, "dwc3.1", ""), (elsewhere, "dwc3.2", "g2")):
        write_line(path / "udc" / name / "function", gadget)
        link(classes / "udc" / name, path / "udc" / name)
    link(classes / "tpm/tpm0", device / "spi0/tpm/tpm0")
    link(classes / "tpm/tpm1", elsewhere / "tpm/tpm1")
    assert [use.text for use in remote_uses(device, classes, exported)] == [
        "a Bluetooth device is connected to its adapter hci0",
        "another machine uses its USB device 1-1 (usbip)",
        "this machine is a USB device through it (gadget g1)",
        "the TPM of this machine is behind it (tpm0)",
    ]
