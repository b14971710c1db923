# SPDX-License-Identifier: MIT
"""A kernel's configuration, packed or not, and its lockdown."""

import gzip

from iommufd_py.host.environment import parse_config
from iommufd_py.host.tracefs import lockdown_level

CONFIG = b"# a comment\nCONFIG_IOMMUFD_TEST=y\n# CONFIG_KASAN is not set\nCONFIG_HZ=250\nCONFIG_OTHER=m\n"


def test_configuration_is_the_same_packed() -> None:
    plain = parse_config(CONFIG)
    assert parse_config(gzip.compress(CONFIG)) == plain
    assert (plain["IOMMUFD_TEST"], plain["KASAN"], plain["HZ"]) == ("y", "n", "250")
    assert "OTHER" not in plain


def test_lockdown() -> None:
    assert lockdown_level("none [integrity] confidentiality\n") == "integrity"
    assert lockdown_level("[none] integrity confidentiality\n") == "none"
    assert lockdown_level("") == ""
