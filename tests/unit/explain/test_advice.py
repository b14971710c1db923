# SPDX-License-Identifier: MIT
"""Each rule of advice, with figures that just support it and with figures that just do not."""

import errno
from collections.abc import Mapping
from dataclasses import replace

import pytest

from iommufd_py.explain.advice import Facts, advice
from iommufd_py.explain.calls import Request, TracedIoctl
from iommufd_py.explain.memory import MemoryArea, MemoryKind
from iommufd_py.explain.pieces import FAULT_IN, REST, Measured
from iommufd_py.explain.process import Device
from iommufd_py.explain.summary import summaries
from iommufd_py.host.map_parts import DATA_FLUSH, PartTime

GUEST = MemoryArea(1 << 40, (1 << 40) + (1 << 30), "", MemoryKind.ANONYMOUS, 1 << 30, 4096, 0)


def one(
    shares: Mapping[str, float],
    ioctl: str = "IOMMU_IOAS_MAP",
    *,
    iova: int = 1 << 32,
    user_va: int | None = 1 << 40,
    length: int = 1 << 30,
    seconds: float = 1.0,
    calls: int = 1000,
    runs: Mapping[int, int] | None = None,
    result: int = 0,
) -> Measured:
    """Return an ioctl with shares of its time, and the same number of calls in each part."""
    parts = {name: PartTime(share * seconds, calls) for name, share in shares.items()}
    parts[REST] = PartTime((1 - sum(shares.values())) * seconds, 1)
    call = TracedIoctl(Request(ioctl, iova, length, user_va), 7, 10.0, 10.0 + seconds, result)
    return Measured(call, iova, seconds, parts, runs or {}, calls * len(shares))


def of(
    *ioctls: Measured,
    pair_s: float | None = 1e-6,
    mapped: Mapping[MemoryArea, int] | None = None,
    devices: tuple[Device, ...] = (),
    memlock: int | None = None,
) -> tuple[str, ...]:
    maps, unmaps, _ = summaries(ioctls, pair_s)
    return advice(Facts(maps, unmaps, {GUEST: 1 << 30} if mapped is None else mapped, devices, memlock))


def test_memory_that_was_not_present() -> None:
    (text,) = of(one({FAULT_IN: 0.8, "pinning": 0.1}, calls=262144, runs={1 << 20: 1024}))
    assert text.startswith(
        "80% of the time of the maps is fault-in: in 262144 page faults the kernel allocated and zeroed"
    )
    assert "MAP_POPULATE" in text
    assert "hugetlb" in text
    assert "IOMMU_IOAS_MAP_FILE" in text


def test_the_advice_about_faults_depends_on_the_memory() -> None:
    hugetlb = replace(GUEST, kind=MemoryKind.HUGETLB, page_bytes=2 << 20)
    (text,) = of(one({FAULT_IN: 0.8}, calls=512), mapped={hugetlb: 1 << 30})
    assert "the kernel zeroed memory" in text
    assert "use hugetlb pages" not in text
    (text,) = of(one({FAULT_IN: 0.8}, calls=512), mapped={})
    assert "the kernel allocated and filled memory" in text


def test_a_share_that_the_probes_can_have_made_gives_no_advice() -> None:
    faults = one({FAULT_IN: 0.6}, calls=200_000)
    assert of(faults, pair_s=1e-6)  # The probes took 0.2 s of 1 s, so at least 40 % are left.
    assert not of(faults, pair_s=2e-6)  # The probes took 0.4 s, so 20 % are left.


@pytest.mark.parametrize("seconds", [0.0005, 0.002])
def test_maps_that_take_no_time_give_no_advice(seconds: float) -> None:
    assert bool(of(one({FAULT_IN: 0.9}, seconds=seconds, calls=1))) is (seconds > 0.001)


def test_short_runs() -> None:
    scattered = one({"pinning": 0.2, "page tables": 0.3}, runs={4096: 262144})
    (text,) = of(scattered)
    assert text.startswith("1 GiB reached the page table in 262144 physically contiguous runs of at most 4K")
    assert not of(replace(scattered, runs={2 << 20: 512}))
    # The runs do not matter if they take no time.
    assert not of(one({"pinning": 0.1, "page tables": 0.1}, runs={4096: 262144}))
    # A map of 4K has a run of 4K, with any memory.
    assert not of(
        *[one({"pinning": 0.5}, length=4096, runs={4096: 1}, iova=at << 20, user_va=at << 30) for at in range(9)]
    )


@pytest.mark.parametrize(("name", "ioctl"), [("maps", "IOMMU_IOAS_MAP"), ("unmaps", "IOMMU_IOAS_UNMAP")])
def test_flushes(name: str, ioctl: str) -> None:
    (text,) = of(one({DATA_FLUSH: 0.5}, ioctl))
    assert text.startswith(f"50% of the time of the {name} flushes the mapped memory")
    (text,) = of(one({"page-table flush": 0.5}, ioctl))
    assert text.startswith(f"50% of the time of the {name} flushes page-table entries")
    assert not of(one({DATA_FLUSH: 0.1, "page-table flush": 0.1}, ioctl))


def test_invalidations() -> None:
    (text,) = of(one({"IOTLB invalidation": 0.5}))
    assert "caching mode" in text
    unmaps = [one({"IOTLB invalidation": 0.5}, "IOMMU_IOAS_UNMAP", iova=at << 20, calls=1) for at in range(64)]
    (text,) = of(*unmaps)
    assert text == (
        "50% of the time of the 64 unmaps invalidates the IOTLB, in 64 calls: unmap neighbours in one ioctl"
    )
    # One ioctl cannot be split further.
    assert not of(unmaps[0])


def test_maps_that_continue_one_another() -> None:
    pages = [one({}, iova=at << 12, user_va=(1 << 40) + (at << 12), length=4096, calls=0) for at in range(100)]
    (text,) = of(*pages)
    assert text.startswith("99 of 100 maps continue the previous map")
    assert not of(*pages[:60])
    assert not of(*pages[::-1])


def test_maps_of_the_same_memory() -> None:
    (text,) = of(*[one({}, iova=at << 30, calls=0) for at in range(4)])
    assert text.startswith("3 of 4 maps are of memory that was mapped before")
    assert not of(*[one({}, user_va=at << 40, calls=0) for at in range(1, 5)])


def test_the_limit_of_locked_memory() -> None:
    refused = one({}, result=-errno.ENOMEM)
    (text,) = of(refused, memlock=8 << 20)
    assert text.startswith("1 map failed with ENOMEM, and RLIMIT_MEMLOCK of the process is 8M: raise it")
    # Without a limit, ENOMEM has another reason.
    assert not of(refused, memlock=None)
    assert not of(one({}, result=-errno.EINVAL), memlock=8 << 20)


@pytest.mark.parametrize(
    ("leaves", "expected"), [({4096: 16384}, 1), ({4096: 16384, 2 << 20: 512}, 0), ({4096: 100}, 0), ({}, 0), (None, 0)]
)
def test_small_leaves(leaves: dict[int, int] | None, expected: int) -> None:
    texts = of(devices=(Device("0000:3b:00.0", "dmar0", None, leaves, ""),))
    assert len(texts) == expected
    assert all("maps 64 MiB by 16384 leaves of 4K: with 2M pages at aligned IOVAs it needs 32" in one for one in texts)


def test_nothing_seen_gives_no_advice() -> None:
    assert of() == ()
