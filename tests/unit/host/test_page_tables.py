# SPDX-License-Identifier: MIT
"""The page-table memory of the system, from the texts of /proc/meminfo and /proc/vmstat."""

from iommufd_py.host.page_tables import PageTables, parse_page_tables


def test_page_tables_of_the_system() -> None:
    meminfo = "PageTables:         4096 kB\nSecPageTables:        40 kB\n"
    assert parse_page_tables(meminfo, "nr_iommu_pages 10\n", 4096) == PageTables(40960, 40960)
    assert parse_page_tables("PageTables: 4096 kB\n", "nr_free_pages 1\n", 4096) == PageTables(None, None)
