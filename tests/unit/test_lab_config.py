# SPDX-License-Identifier: MIT
from iommufd_py.lab.config import REQUIRED, check_config, fragment, parse_config


def test_the_fragment_has_every_required_symbol_once() -> None:
    lines = [line for line in fragment().read_text().splitlines() if line.startswith("CONFIG_")]
    names = [line.partition("=")[0] for line in lines]
    assert len(names) == len(set(names))
    assert {name for name in REQUIRED if parse_config("\n".join(lines)).get(name) == "y"} == REQUIRED


def test_what_did_not_take_effect_is_told_from_what_is_not_known() -> None:
    wanted = 'CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=y\nCONFIG_NAME="x"\nCONFIG_GONE=y\n'
    got = 'CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C is not set\nCONFIG_NAME="x"\nCONFIG_OTHER=y\n'
    check = check_config(wanted, got, "frag:7:warning: unknown symbol: GONE\n")
    assert check.dropped == ("CONFIG_B", "CONFIG_E")
    assert check.unknown == ("CONFIG_GONE",)
    assert check.missing == ()


def test_a_required_symbol_is_missing_either_way() -> None:
    wanted = "CONFIG_IOMMUFD=y\nCONFIG_VFIO_PCI=y\n"
    check = check_config(wanted, "# CONFIG_VFIO_PCI is not set\n", "x:1:warning: unknown symbol: IOMMUFD")
    assert check.missing == ("CONFIG_IOMMUFD", "CONFIG_VFIO_PCI")
