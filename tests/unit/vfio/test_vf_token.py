# SPDX-License-Identifier: MIT
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
