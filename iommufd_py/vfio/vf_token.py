# SPDX-License-Identifier: MIT
"""VF tokens: the secret that the owner of a physical function shares with the users of its virtual functions.

Source: cc20d7999000 ("vfio/pci: Introduce VF token", v5.7).
"""

from uuid import UUID

from iommufd_py.base.errors import ArgumentValueError
from iommufd_py.base.shown import shown


def parse_vf_token(token: UUID | str | None) -> UUID | None:
    """Return a VF token as a UUID; None stays None.

    Raises:
        ArgumentValueError: the text is not a UUID.
    """
    if token is None or isinstance(token, UUID):
        return token
    try:
        return UUID(token)
    except ValueError:
        raise ArgumentValueError(f"vf_token must be a UUID, as uuidgen prints it, not {shown(token)}") from None
