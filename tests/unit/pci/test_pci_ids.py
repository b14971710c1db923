# SPDX-License-Identifier: MIT
"""Names from pci.ids."""

from iommufd_py.pci.names import parse_pci_ids


def test_pci_ids() -> None:
    names = parse_pci_ids(
        [
            "# a comment\n",
            "\n",
            "1234  Technical Corp.\n",
            "\t11e8  QEMU edu\n",
            "\t\t1af4 1100  a subsystem\n",
            "1af4  Red Hat, Inc.\n",
            "C 01  Mass storage controller\n",
            "\t08  Non-Volatile memory controller\n",
            "\t\t02  NVM Express\n",
        ]
    )
    assert names.of_device("1234", "11e8") == "Technical Corp. QEMU edu"
    assert names.of_device("1af4", "1000") == "Red Hat, Inc."
    assert names.of_device("ffff", "0000") == ""
    assert names.of_class("010802") == "Non-Volatile memory controller"
    assert names.of_class("010400") == "Mass storage controller"
