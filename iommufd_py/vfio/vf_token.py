# SPDX-License-Identifier: MIT
"""VF tokens: the secret that the owner of a physical function shares with the users of its virtual functions.

Source: cc20d7999000 ("vfio/pci: Introduce VF token", v5.7).
"""

import re
from uuid import UUID

from iommufd_py.base.errors import ArgumentValueError
from iommufd_py.base.shown import shown

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def parse_vf_token(token: UUID | str | None) -> UUID | None:
    """Return a VF token as a UUID; None stays None.

    Raises:
        ArgumentValueError: the text is not a UUID.
    """
    if token is None or isinstance(token, UUID):
        return token
    # UUID() also takes blanks, signs, underscores, 0x and the digits of other scripts, and reads another number.
    if not _UUID.fullmatch(token):
        raise ArgumentValueError(f"vf_token must be a UUID, as uuidgen prints it, not {shown(token)}")
    return UUID(token)
