# SPDX-License-Identifier: MIT
"""The pytest plugin: markers, options and fixtures.

It changes nothing for tests that use none of the fixtures. The markers apply to tests that use a fixture, and to all
tests of a project with ``required_plugins = "iommufd-py"`` in its pytest configuration.
"""

import re
import signal
import warnings
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iommufd_py.base.container_mode import ContainerMode
    from iommufd_py.mock import MockDevice
    from iommufd_py.objects.buffer import DmaBuffer
    from iommufd_py.objects.ioas import Ioas
    from iommufd_py.objects.iommufd import Iommufd
    from iommufd_py.testing.devices import DevicePool
    from iommufd_py.testing.leak_check import LeakCheck
    from iommufd_py.vfio.container import Container
    from iommufd_py.vfio.device import VfioDevice

_DISTRIBUTION = "iommufd-py"

_MARKERS = {
    "mock": "needs the kernel's mock driver (CONFIG_IOMMUFD_TEST), as in 'iommufd lab run -- pytest ...'",
    "vtd(snoop_control=None, own_group=None, ids=None)": (
        "needs a device behind an Intel VT-d, from IOMMUFD_BDF or the pool IOMMUFD_BDFS, with these properties"
    ),
    "hw": "needs bare metal; IOMMUFD_FORCE=1 runs it on an emulated machine too",
    "disruptive": "disturbs other programs on the machine; runs in the lab, elsewhere with IOMMUFD_FORCE=1",
    "expect_kernel_log(regex)": "the kernel must report this (a warning, a DMA fault); else such a report fails a test",
}
# Values of iommufd_py.base.container_mode.ContainerMode, by their variant names in tools/testing/selftests/vfio.
CONTAINER_MODES = {
    "vfio_type1_iommu": "vfio_type1",
    "vfio_type1v2_iommu": "vfio_type1v2",
    "iommufd_compat_type1": "compat_type1",
    "iommufd_compat_type1v2": "compat_type1v2",
    "iommufd": "iommufd",
}

_GATES = tuple(marker.partition("(")[0] for marker in _MARKERS)
# Every marker has a second name with a prefix, for a project with its own marker "mock" or "hw".
_PREFIX = "iommufd_"


def _markers(node: pytest.Item, name: str) -> "Iterator[pytest.Mark]":
    """Return the markers of this name on a test, with and without the prefix, the closest first."""
    return (mark for mark in node.iter_markers() if mark.name in (name, _PREFIX + name))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--ktap``."""
    group = parser.getgroup("reporting")
    group.addoption(
        "--ktap",
        "--iommufd-ktap",
        dest="ktap",
        metavar="FILE",
        help="also write the outcomes as KTAP; - is the terminal",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; load other modules only if an option needs them."""
    for marker, meaning in _MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")
        name, bracket, arguments = marker.partition("(")
        config.addinivalue_line("markers", f"{_PREFIX}{name}{bracket}{arguments}: the same as {name}")
    if any(one.startswith(_DISTRIBUTION) for one in config.getini("required_plugins")):
        config.pluginmanager.register(_MarkersCount())
    target = config.getoption("--ktap")
    if target is not None:
        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--ktap numbers the tests as they run, one after the other: leave out -n")
        from iommufd_py.testing.ktap import Ktap, file_writer, terminal_writer

        write = terminal_writer(config) if target == "-" else file_writer(config, target)
        config.pluginmanager.register(Ktap(write))


class _MarkersCount:
    """Add the fixture ``leak_check``, which evaluates the markers, to tests with a marker but without a fixture."""

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        names = getattr(item, "fixturenames", None)
        if names is not None and "leak_check" not in names and any(next(_markers(item, name), None) for name in _GATES):
            names.insert(0, "leak_check")


@pytest.fixture
def leak_check(request: pytest.FixtureRequest) -> "Iterator[LeakCheck]":
    """Fail the test if it leaves descriptors or pinned memory behind, or if the kernel reports a fault during it.

    All other fixtures depend on this one, so it checks after they have closed their objects.
    """
    from iommufd_py.testing.leak_check import LeakCheck

    _check_markers(request)
    expected = [_regex(marker) for marker in _markers(request.node, "expect_kernel_log")]
    failed_before = request.session.testsfailed
    check = LeakCheck(expected)
    yield check
    complaints = check.complaints(leaks=request.session.testsfailed == failed_before)
    if check.unwatched:
        warnings.warn(check.unwatched, stacklevel=1)
    # After Ctrl-C there is no verdict, and raising here would end pytest with a traceback.
    if complaints and request.session.exitstatus != pytest.ExitCode.INTERRUPTED:
        pytest.fail("\n".join(complaints), pytrace=False)


def _regex(marker: pytest.Mark) -> str:
    """Return the only argument of the marker expect_kernel_log, and fail the test if it is no regular expression."""
    try:
        (text,) = marker.args
        re.compile(text)
    except (ValueError, TypeError, re.error) as failure:
        given = ", ".join(map(repr, marker.args))
        pytest.fail(f"@{marker.name}({given}) needs one regular expression: {failure}", pytrace=False)
    return str(text)


def _check_markers(request: pytest.FixtureRequest) -> None:
    from iommufd_py.testing import requirements

    _properties(request)  # A wrong marker fails on every machine, also where the test would be skipped.
    marked = {name for name in _GATES if next(_markers(request.node, name), None)}
    if "hw" in marked:
        requirements.need_hardware()
    if "disruptive" in marked:
        requirements.need_disruption()
    if marked & {"mock", "vtd"}:
        requirements.need_iommufd()
    if "mock" in marked:
        from iommufd_py.objects.iommufd import Iommufd

        with Iommufd() as iommufd:
            requirements.need_mock_driver(iommufd)
    if "vtd" in marked:
        _choose_device(request)


@pytest.fixture
def iommufd(leak_check: "LeakCheck") -> "Iterator[Iommufd]":
    """An open /dev/iommu. Its end closes all objects that were made on it."""
    from iommufd_py.objects.iommufd import Iommufd
    from iommufd_py.testing import requirements

    requirements.need_iommufd()
    with Iommufd() as iommufd:
        yield iommufd


@pytest.fixture
def ioas(iommufd: "Iommufd") -> "Ioas":
    """An empty IOAS."""
    return iommufd.alloc_ioas()


@pytest.fixture
def mock_device(iommufd: "Iommufd") -> "MockDevice":
    """A device of the kernel's mock driver, not attached yet."""
    from iommufd_py.mock import MockDevice
    from iommufd_py.testing import requirements

    requirements.need_mock_driver(iommufd)
    return MockDevice(iommufd)


@pytest.fixture(scope="session")
def device_pool() -> "Iterator[DevicePool]":
    """The devices of IOMMUFD_BDF or IOMMUFD_BDFS. Those bound to vfio-pci get their drivers back at the end."""
    from iommufd_py.base.errors import DeviceError
    from iommufd_py.base.signals import held_signals
    from iommufd_py.testing.devices import DevicePool

    try:
        pool = DevicePool()
    except DeviceError as failure:
        pytest.fail(str(failure), pytrace=False)
    # Without this, the SIGTERM that stops a CI job, or the SIGHUP of a closed terminal, would end the process and leave
    # the devices on vfio-pci. The caller may have set a signal to be ignored, as nohup does.
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield pool
    finally:
        try:
            # A second signal must not end the process between two devices.
            with held_signals():
                pool.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@pytest.fixture
def bdf(request: pytest.FixtureRequest, leak_check: "LeakCheck") -> str:
    """Address of a device on vfio-pci with the properties of the test's ``vtd`` marker; without marker, the first
    device."""
    return _choose_device(request)


def _properties(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the properties of the test's ``vtd`` markers, and fail the test if there is no such property."""
    if next(_markers(request.node, "vtd"), None) is None:
        return {}
    from iommufd_py.testing.devices import DeviceRequirements

    known = {field.name for field in fields(DeviceRequirements)} - {"vtd"}
    asked: dict[str, Any] = {}
    for marker in _markers(request.node, "vtd"):  # The closest marker comes first.
        unknown = [*map(repr, marker.args), *sorted(marker.kwargs.keys() - known)]
        if unknown:
            pytest.fail(f"@{marker.name} has no {', '.join(unknown)}: name {', '.join(sorted(known))}", pytrace=False)
        asked = {"vtd": True, **marker.kwargs, **asked}
    return asked


def _choose_device(request: pytest.FixtureRequest) -> str:
    from iommufd_py.base.errors import SkipError
    from iommufd_py.testing import requirements
    from iommufd_py.testing.devices import DeviceRequirements

    pool: DevicePool = request.getfixturevalue("device_pool")
    requirements.need(
        bool(pool.addresses),
        "needs a spare device: set IOMMUFD_BDF=0000:3b:00.0 or a pool IOMMUFD_BDFS, or run it in the lab, "
        "'iommufd lab run -- pytest ...'",
    )
    try:
        return pool.take(DeviceRequirements(**_properties(request)))
    except SkipError as misfit:
        pytest.skip(str(misfit))


@pytest.fixture
def vfio_device(iommufd: "Iommufd", bdf: str) -> "VfioDevice":
    """A device with the properties of the test's ``vtd`` marker, bound to the iommufd and not attached yet."""
    from iommufd_py.vfio.device import VfioDevice

    return VfioDevice(iommufd, bdf)


@pytest.fixture(params=CONTAINER_MODES)
def container_mode(request: pytest.FixtureRequest) -> "ContainerMode":
    """Each of the five container modes in turn, with their names in the kernel's selftests."""
    from iommufd_py.base.container_mode import ContainerMode

    return ContainerMode(CONTAINER_MODES[request.param])


@pytest.fixture
def container(container_mode: "ContainerMode", bdf: str) -> "Iterator[Container]":
    """A container of each of the five modes in turn, with a device that has the properties of the ``vtd`` marker."""
    from iommufd_py.testing import requirements

    with requirements.need_container(container_mode, bdf) as container:
        yield container


@pytest.fixture
def dma_buffer(leak_check: "LeakCheck") -> "Callable[..., DmaBuffer]":
    """Make a :class:`DmaBuffer`: ``dma_buffer(2 << 20, Backing.THP)``. Its pages must not be pinned at the end."""
    return leak_check.buffer
