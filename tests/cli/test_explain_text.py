# SPDX-License-Identifier: MIT
"""The tables of `iommufd explain` can be pasted into an issue."""

from iommufd_py.cli.explain import _watch_facts

from iommufd_py.explain.explanation import Explanation
from iommufd_py.explain.process import ProcessState
from iommufd_py.explain.summary import summaries
from iommufd_py.explain.watch import Watched
from iommufd_py.host import environment
from iommufd_py.host.page_tables import page_tables


def test_a_mapped_file_has_its_name_without_its_path() -> None:
    watched = Watched(1.0, False, False, (), (), None, 1.0, 0, False)
    state = ProcessState(1, "vmm", (), (), 0, 0, None, ())
    tables = page_tables()
    files = {5: "/home/user/disk.img", 6: "/memfd:guest (deleted)"}
    found = Explanation(environment(), state, watched, "", (tables, tables), summaries((), None), {}, files)
    facts = [text for name, text in _watch_facts(found, watched) if name == "of memory"]
    assert facts == ["descriptor 5, disk.img", "descriptor 6, memfd:guest (deleted)"]
