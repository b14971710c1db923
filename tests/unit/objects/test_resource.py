# SPDX-License-Identifier: MIT
"""The base class of all resources: order of closing, failures, signals, and use after close()."""

import copy
import gc
import os
import pickle
import warnings
from collections.abc import Callable
from signal import default_int_handler, raise_signal, signal

import pytest

from iommufd_py.base.errors import BackingError, BusyError, ClosedError
from iommufd_py.base.signals import ENDING
from iommufd_py.objects.resource import OpenFile, Resource


class Thing(Resource):
    """A resource that records its release, and can be set to fail."""

    def __init__(
        self, name: str, log: list[str], *stands_on: Resource, fails: BaseException | None = None, signal: int = 0
    ) -> None:
        super().__init__(*stands_on)
        self.name, self.log, self.fails = name, log, fails
        with self._opening():
            if signal:
                raise_signal(signal)

    def __repr__(self) -> str:
        return self.name

    def _release(self) -> None:
        self.log.append(self.name)
        if self.fails:
            raise self.fails


BUSY = BusyError(16, "IOMMU_DESTROY", {"id": "stuck"})


def test_closing_closes_what_stands_on_it_newest_first() -> None:
    log: list[str] = []
    root = Thing("root", log)
    left, right = Thing("left", log, root), Thing("right", log, root)
    both = Thing("both", log, left, right)
    last = Thing("last", log, left)
    left.close()
    assert log == ["last", "both", "left"]
    assert both.closed
    assert last.closed
    assert not right.closed
    root.close()
    assert log == ["last", "both", "left", "right", "root"]


def test_close_twice_releases_once() -> None:
    log: list[str] = []
    thing = Thing("thing", log)
    thing.close()
    thing.close()
    assert log == ["thing"]


def test_nothing_can_stand_on_a_closed_thing() -> None:
    log: list[str] = []
    root = Thing("root", log)
    root.close()
    with pytest.raises(ClosedError, match="root is closed"):
        Thing("late", log, root)
    with pytest.raises(ClosedError), root:
        pass


def test_a_failure_does_not_keep_the_rest_open() -> None:
    log: list[str] = []
    root = Thing("root", log)
    Thing("first", log, root)
    Thing("stuck", log, root, fails=BUSY)
    with pytest.raises(BusyError, match="stuck"):
        root.close()
    assert log == ["stuck", "first", "root"]
    assert root.closed


def test_ctrl_c_closes_the_rest_too_and_is_raised() -> None:
    log: list[str] = []
    root = Thing("root", log)
    slow = Thing("slow", log, root, fails=KeyboardInterrupt())
    Thing("stuck", log, root, fails=BUSY)
    with pytest.raises(KeyboardInterrupt):
        root.close()
    assert log == ["stuck", "slow", "root"]
    slow.close()
    assert log == ["stuck", "slow", "root"], "released twice"


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_it_opens_is_raised_when_it_can_be_closed(number: int) -> None:
    log: list[str] = []
    root = Thing("root", log)
    before = signal(number, default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Thing("slow", log, root, signal=number)
    finally:
        signal(number, before)
    assert log == ["slow"]
    root.close()
    assert log == ["slow", "root"]


def test_a_resource_that_cannot_be_released_stays_open() -> None:
    log: list[str] = []
    root = Thing("root", log)
    viewed = Thing("viewed", log, root, fails=BackingError("a view is held"))
    with pytest.raises(BackingError):
        viewed.close()
    Thing("slow", log, viewed, fails=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        viewed.close()
    assert not viewed.closed
    viewed.fails = None
    log.clear()
    root.close()
    assert log == ["viewed", "root"]


def test_forgetting_one_leaves_the_others() -> None:
    log: list[str] = []
    root = Thing("root", log)
    gone = Thing("gone", log, root)
    Thing("stays", log, root)
    gone._mark_closed()
    root.close()
    assert log == ["stays", "root"]


def test_dropping_an_open_thing_only_warns() -> None:
    log: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Thing("dropped", log)
        gc.collect()
    assert [str(one.message) for one in caught] == ["dropped was never closed"]
    assert caught[0].category is ResourceWarning
    assert log == []


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deep", "pickle"])
def test_a_resource_refuses_to_be_copied(through: Callable[[Resource], object]) -> None:
    with Thing("thing", []) as thing, pytest.raises(TypeError, match="Thing cannot be copied or pickled: "):
        through(thing)


class NullFile(OpenFile):
    def __init__(self) -> None:
        super().__init__()
        with self._opening():
            self._fd = os.open(os.devnull, os.O_RDONLY)


def test_an_open_file_has_a_descriptor_until_it_is_closed() -> None:
    file = NullFile()
    number = file.fileno()
    os.fstat(number)
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    with pytest.raises(ClosedError):
        file.fileno()
