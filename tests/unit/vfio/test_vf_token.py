# SPDX-License-Identifier: MIT
"""VF tokens: their bytes, and texts that are no token."""

from uuid import UUID

import pytest

from iommufd_py import ContainerMode, open_container
from iommufd_py.base.errors import ArgumentTypeError, ArgumentValueError
from iommufd_py.vfio.vf_token import parse_vf_token

TEXT = "00112233-4455-6677-8899-aabbccddeeff"


def test_a_token_is_a_uuid_in_the_order_of_its_text() -> None:
    """The kernel reads the token of a group's device name by uuid_parse(), and that of a cdev as these bytes."""
    token = parse_vf_token(TEXT)
    assert token == parse_vf_token(UUID(TEXT))
    assert token is not None
    assert token.bytes == bytes.fromhex(TEXT.replace("-", ""))
    assert parse_vf_token(None) is None


def test_a_wrong_token_is_refused_before_the_device_is_opened() -> None:
    with pytest.raises(ArgumentValueError, match="vf_token must be a UUID, as uuidgen prints it, not 'secret'"):
        parse_vf_token("secret")
    with pytest.raises(ArgumentTypeError, match=r"open_container\(\): vf_token must be"):
        open_container(ContainerMode.IOMMUFD, "0000:00:01.0", vf_token=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x345678123412341234123456789abc01",
        "+2345678123412341234123456789abcd",
        "1_345678_1234_1234_1234_123456789012",
        " 2345678-1234-1234-1234-123456789012",
        "{12345678-1234-1234-1234-123456789012}",
        "urn:uuid:12345678-1234-1234-1234-123456789012",
        "12345678123412341234123456789012",
        "1234567-81234-1234-1234-123456789012",
        "\u0661\u0662345678-1234-1234-1234-123456789012",
        "12345678-1234-1234-1234-123456789012\n",
    ],
)
def test_a_text_that_the_kernel_reads_otherwise_is_no_token(text: str) -> None:
    """UUID() removes some characters and reads the rest as a number. uuid_parse() of the kernel does not."""
    with pytest.raises(ArgumentValueError, match="vf_token must be a UUID"):
        parse_vf_token(text)
