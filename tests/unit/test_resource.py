# SPDX-License-Identifier: MIT
import gc
import warnings

import pytest

from iommufd_py.errors import BusyError, ClosedError
from iommufd_py.resource import Resource


class Thing(Resource):
    """A resource that writes down when it is released, and can be told to fail."""

    def __init__(self, name: str, log: list[str], *stands_on: Resource, fails: bool = False) -> None:
        super().__init__(*stands_on)
        self.name, self.log, self.fails = name, log, fails
        self._opened()

    def __repr__(self) -> str:
        return self.name

    def _release(self) -> None:
        self.log.append(self.name)
        if self.fails:
            raise BusyError(16, "IOMMU_DESTROY", {"id": self.name})


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
    Thing("stuck", log, root, fails=True)
    with pytest.raises(BusyError, match="stuck"):
        root.close()
    assert log == ["stuck", "first", "root"]
    assert root.closed


def test_forgetting_one_leaves_the_others() -> None:
    log: list[str] = []
    root = Thing("root", log)
    gone = Thing("gone", log, root)
    Thing("stays", log, root)
    gone._forget()
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
