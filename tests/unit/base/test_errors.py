# SPDX-License-Identifier: MIT
import errno

import pytest

from iommufd_py.base import errors


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ENOTTY", errors.UnsupportedIoctlError),
        ("EOPNOTSUPP", errors.NotSupportedError),
        ("E2BIG", errors.TooNewError),
        ("ENOENT", errors.ObjectNotFoundError),
        ("EBUSY", errors.BusyError),
        ("EEXIST", errors.AlreadyMappedError),
        ("EINVAL", errors.InvalidFieldError),
        ("ENOMEM", errors.IommufdError),
    ],
)
def test_check_raises_by_meaning_and_keeps_errno(name: str, kind: type[errors.IommufdError]) -> None:
    number = getattr(errno, name)
    with pytest.raises(OSError, match=rf"\): {name}: ") as caught:
        errors.check_result(-number, "IOMMU_DESTROY", {"id": 7})
    assert type(caught.value) is kind
    assert caught.value.errno == number
    assert caught.value.arguments == {"id": 7}


def test_check_returns_results() -> None:
    assert errors.check_result(5, "VFIO_GROUP_GET_DEVICE_FD", {}) == 5


def test_message_names_ioctl_arguments_cause_and_remedy() -> None:
    failure = errors.IommufdError(errno.EEXIST, "IOMMU_IOAS_MAP", {"ioas_id": 2, "iova": 0x1000, "length": 4096})
    assert str(failure) == (
        "IOMMU_IOAS_MAP(ioas_id=2, iova=0x1000, length=4096): EEXIST: part of this IOVA range is mapped already; "
        "unmap it first or choose another IOVA"
    )


def test_errno_without_a_meaning_of_ours_has_the_systems() -> None:
    assert "Stale file handle" in str(errors.IommufdError(errno.ESTALE, "IOMMU_DESTROY", {"id": 1}))
