# SPDX-License-Identifier: MIT
"""The folders of the machines of a run, and the texts in their records."""

import pytest

from iommufd_py.fleet.record import machine_folder, plain, waiting_name


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("spr0", "spr0"),
        ("lab_1.rack-2", "lab_1.rack-2"),
        ("runner-1", "runner-1"),
        ("a/b", "a%2Fb"),
        ("../a", "..%2Fa"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("a b", "a%20b"),
        (waiting_name(12), "runner 12"),
    ],
)
def test_each_name_of_a_place_is_one_folder(name: str, folder: str) -> None:
    assert machine_folder(name) == folder


def test_a_text_of_another_machine_does_not_change_the_direction_of_a_report() -> None:
    assert plain("a\u202eb\u2066c\u200fd\ufeff\x1b[31m\ud800") == "a?b?c?d??[31m?"
    assert plain("größe \u4e2d\t\n") == "größe \u4e2d\t\n"
