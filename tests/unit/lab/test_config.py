# SPDX-License-Identifier: MIT
"""The kernel configurations of the lab, and the check that a kernel has each required symbol."""

import re
from typing import Any

import pytest

from iommufd_py.lab.config import CONFIGS, Configuration, check_config, parse_config


@pytest.mark.parametrize("arch", ["x86_64", "um"])
@pytest.mark.parametrize("debug", [False, True])
def test_the_fragments_have_every_required_symbol(arch: Any, debug: bool) -> None:
    configuration = Configuration(arch, debug)
    symbols = parse_config(configuration.fragment)
    assert {name for name in configuration.required if symbols.get(name) == "y"} == configuration.required


def test_a_fragment_has_every_symbol_once() -> None:
    for fragment in CONFIGS.glob("*.config"):
        names = re.findall(r"^(CONFIG_\w+)=", fragment.read_text(), re.MULTILINE)
        assert len(names) == len(set(names)), fragment


def test_every_configuration_has_a_name_of_its_own() -> None:
    assert [Configuration(arch, debug).label("stock") for arch in ("x86_64", "um") for debug in (False, True)] == [
        "stock",
        "stock-debug",
        "stock-um",
        "stock-um-debug",
    ]


def test_debug_is_the_same_and_more() -> None:
    plain, debug = Configuration().fragment, Configuration(debug=True).fragment
    assert debug.startswith(plain)
    assert parse_config(debug)["CONFIG_KASAN"] == "y"
    assert "CONFIG_KASAN" not in parse_config(plain)


def test_dropped_symbols_differ_from_unknown_symbols() -> None:
    wanted = 'CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=y\nCONFIG_NAME="x"\nCONFIG_GONE=y\n'
    got = 'CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C is not set\nCONFIG_NAME="x"\nCONFIG_OTHER=y\n'
    check = check_config(wanted, got, "frag:7:warning: unknown symbol: GONE\n")
    assert check.dropped == ("CONFIG_B", "CONFIG_E")
    assert check.unknown == ("CONFIG_GONE",)
    assert check.missing(frozenset({"CONFIG_A"})) == ()


def test_a_required_symbol_is_missing_either_way() -> None:
    wanted = "CONFIG_IOMMUFD=y\nCONFIG_VFIO_PCI=y\n"
    check = check_config(wanted, "# CONFIG_VFIO_PCI is not set\n", "x:1:warning: unknown symbol: IOMMUFD")
    assert check.missing(Configuration().required) == ("CONFIG_IOMMUFD", "CONFIG_VFIO_PCI")
