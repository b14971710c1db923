# SPDX-License-Identifier: MIT
"""Each errno becomes the error of its meaning, with the ioctl, the cause and the remedy, and can be pickled."""

import copy
import errno
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

from iommufd_py.base import errors
from tests.waiting import patience


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


@pytest.mark.parametrize(
    ("ioctl", "number", "cause"),
    [
        ("IOMMU_TEST_CMD MOCK_DOMAIN", errno.EADDRINUSE, "a mapping of the IOAS, "),
        ("IOMMU_TEST_CMD MOCK_DOMAIN_FLAGS", errno.EADDRINUSE, "a mapping of the IOAS, "),
        ("IOMMU_TEST_CMD MOCK_DOMAIN_REPLACE", errno.EADDRINUSE, "a mapping of the IOAS, "),
        ("IOMMU_TEST_CMD PASID_ATTACH", errno.EADDRINUSE, "a mapping of the IOAS, "),
        ("IOMMU_TEST_CMD PASID_REPLACE", errno.EADDRINUSE, "a mapping of the IOAS, "),
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", errno.EADDRINUSE, "a mapping of the IOAS, "),
        ("VFIO_GROUP_SET_CONTAINER", errno.EINVAL, "a mapping of the container lies in a range"),
        ("VFIO_GROUP_SET_CONTAINER", errno.EBUSY, "user addresses of the container are invalidated"),
    ],
)
def test_a_join_names_the_mappings_that_forbid_it(ioctl: str, number: int, cause: str) -> None:
    """Source: iopt_table_add_domain() in drivers/iommu/iommufd/io_pagetable.c, vfio_iommu_type1_attach_group()."""
    assert cause in str(errors.IommufdError(number, ioctl, {}))


def test_message_names_ioctl_arguments_cause_and_remedy() -> None:
    failure = errors.IommufdError(errno.EEXIST, "IOMMU_IOAS_MAP", {"ioas_id": 2, "iova": 0x1000, "length": 4096})
    assert str(failure) == (
        "IOMMU_IOAS_MAP(ioas_id=2, iova=0x1000, length=4096): EEXIST: part of this IOVA range is mapped already; "
        "unmap it first or choose another IOVA"
    )


@pytest.mark.parametrize(
    "ioctl",
    [
        *("VFIO_DEVICE_BIND_IOMMUFD", "VFIO_DEVICE_ATTACH_IOMMUFD_PT"),
        *("VFIO_GROUP_SET_CONTAINER", "VFIO_SET_IOMMU", "VFIO_GROUP_GET_DEVICE_FD"),
    ],
)
def test_every_ioctl_that_claims_a_device_names_a_region_mapped_1_to_1(ioctl: str) -> None:
    text = str(errors.IommufdError(errno.EINVAL, ioctl, {}))
    assert "the firmware wants a region of the device mapped 1:1: 'iommufd device show BDF' says so" in text


def test_errno_without_a_meaning_of_ours_has_the_systems() -> None:
    assert "Stale file handle" in str(errors.IommufdError(errno.ESTALE, "IOMMU_DESTROY", {"id": 1}))


def kinds() -> list[type[Exception]]:
    found, left = [], [errors.ToolError, errors.IommufdError]
    while left:
        kind = left.pop()
        found.append(kind)
        left += kind.__subclasses__()
    return found


def pickled(failure: Exception) -> Exception:
    return pickle.loads(pickle.dumps(failure))


def fail(kind: type[Exception]) -> None:
    failure = kind(17, "IOMMU_IOAS_MAP", {"iova": 4096}) if issubclass(kind, errors.IommufdError) else kind("text")
    failure.add_note("a note")
    raise failure


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, pickled], ids=["copy", "deep", "pickle"])
def test_every_error_can_be_copied(kind: type[Exception], through: Callable[[Exception], Exception]) -> None:
    with pytest.raises(kind) as caught:
        fail(kind)
    again = through(caught.value)
    assert type(again) is kind
    assert str(again) == str(caught.value)
    assert again.args == caught.value.args
    assert vars(again) == vars(caught.value)
    assert getattr(again, "errno", None) == getattr(caught.value, "errno", None)


def test_an_error_comes_out_of_a_process_pool() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        caught = pool.submit(errors.check_result, -errno.EBUSY, "IOMMU_DESTROY", {"id": 1}).exception(
            timeout=patience(12)
        )
    assert isinstance(caught, errors.BusyError)
    assert (caught.errno, caught.ioctl, caught.arguments) == (errno.EBUSY, "IOMMU_DESTROY", {"id": 1})
