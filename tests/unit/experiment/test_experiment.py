# SPDX-License-Identifier: MIT
"""Scripts that are none: one sentence that says which step and why. What steps do is tested on a kernel."""

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.experiment.experiment import SCHEMA, Operation, parse_script

HEAD = f'schema = "{SCHEMA}"\n'


def test_steps_in_their_order() -> None:
    text = HEAD + (
        '[[step]]\ndo = "ioas"\nname = "a"\n'
        '[[step]]\ndo = "unmap"\nioas = "a"\niova = "0x1000"\nlength = "4K"\nexpect = "ENOENT"\n'
    )
    first, second = parse_script(text)
    assert first == Operation("ioas", {"name": "a"})
    assert (second.do, second.expect) == ("unmap", "ENOENT")
    assert str(second) == "unmap ioas=a iova=0x1000 length=4K"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "is no TOML"),
        ("", "has the schema None"),
        ('schema = "iommufd-script/9"', "has the schema 'iommufd-script/9'"),
        (HEAD, "found: no step"),
        (HEAD + "title = 1\n[[step]]\n", "found: title"),
        (HEAD + '[[step]]\ndo = "fly"\n', "step 1 does 'fly': it can do ioas, hwpt"),
        (HEAD + '[[step]]\ndo = "ioas"\n', "step 1, ioas, lacks name"),
        (HEAD + '[[step]]\ndo = "detach"\nname = "x"\n', "step 1, detach, has the unknown name"),
        (HEAD + '[[step]]\ndo = "unmap"\n', "needs either a mapping, or ioas"),
        (HEAD + '[[step]]\ndo = "unmap"\nmapping = "m"\niova = 1\n', "needs either a mapping, or ioas"),
        (HEAD + '[[step]]\ndo = "detach"\nexpect = "EVERYTHING"\n', "'EVERYTHING', which is no errno"),
    ],
)
def test_what_is_no_script(text: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        parse_script(text)
