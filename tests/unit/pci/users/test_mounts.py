# SPDX-License-Identifier: MIT
"""The kernel's tables of mounts and of swap space."""

from iommufd_py.pci.users.mounts import parse_mounts, parse_swaps


def test_mounts_with_blanks_and_optional_fields() -> None:
    mounts = parse_mounts(
        "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n"
        "35 22 0:42 / /mnt/a\\040b rw - 9p share0 rw,trans=virtio\n"
    )
    assert [(one.number, one.source, one.target, one.type) for one in mounts] == [
        ("259:2", "/dev/nvme0n1p2", "/", "ext4"),
        ("0:42", "share0", "/mnt/a b", "9p"),
    ]


def test_swaps() -> None:
    text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/nvme0n1p3    partition\t65532\t\t0\t\t-2\n"
    assert parse_swaps(text) == ("/dev/nvme0n1p3",)
    assert parse_swaps(text.splitlines()[0]) == ()
