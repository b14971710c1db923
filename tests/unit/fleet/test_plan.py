# SPDX-License-Identifier: MIT
"""Valid plans, and the error messages for invalid ones."""

import re
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet.plan import INSTALLED, FleetPlan, StepKind, load_plan

PAGE = Path(__file__).parents[3] / "docs/how-to/fleet/plan.toml"
WHEEL = "iommufd_py-0.2.dev3+g0e35364-cp311-abi3-linux_x86_64.whl"
SMALL = """
name = "flush-v3"
[[runners]]
filter = { iommu = "vtd", coherency = "non-coherent" }
count = 2
[[steps]]
run = "validate"
options = ["--device", "{bdf}", "--bind"]
deadline = "20min"
"""


def plan(folder: Path, text: str) -> FleetPlan:
    path = folder / "plan.toml"
    path.write_text(text)
    (folder / "status").touch()
    return load_plan(path)


def test_a_small_plan(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL)
    assert found.name == "flush-v3"
    assert [(str(one), one.count) for one in found.wanted] == [("iommu=vtd coherency=non_coherent", 2)]
    assert (found.kernels, found.baseline, found.repetitions, found.package) == ((INSTALLED,), None, 1, None)
    (step,) = found.steps
    assert (step.name, step.kind, step.deadline_s) == ("validate", StepKind.VALIDATE, 1200)
    assert step.options == ("--device", "{bdf}", "--bind")


def test_the_plan_of_the_page_is_valid(tmp_path: Path) -> None:
    text = PAGE.read_text()
    (wheel,) = re.findall(r'^package = "(.+)"$', text, re.MULTILINE)
    (tmp_path / wheel).parent.mkdir()
    for name in (wheel, "lab.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "tests").mkdir()
    found = plan(tmp_path, text)
    assert [step.kind for step in found.steps] == [
        StepKind.VALIDATE,
        StepKind.DMA_CHECK,
        StepKind.BENCH,
        StepKind.PYTEST,
    ]
    assert found.package == tmp_path / wheel


@pytest.mark.parametrize("name", ["tool.whl", "iommufd_py.whl", "iommufd_py-0.1.0.tar.gz", f"{WHEEL}.old"])
def test_a_package_that_pip_would_refuse(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ToolError, match="is not the name of a wheel, and pip refuses it"):
        plan(tmp_path, f'package = "{name}"\n{SMALL}')


def test_paths_begin_where_the_plan_is(tmp_path: Path) -> None:
    for name in (WHEEL, "test_it.py", "lab.yaml"):
        (tmp_path / name).touch()
    top = f'package = "{WHEEL}"\nenvironment = "lab.yaml"\nkernels = ["stock", "patched"]\nbaseline = "stock"\n'
    found = plan(tmp_path, top + SMALL + '[[steps]]\nrun = "pytest"\nfiles = ["test_it.py"]\n')
    assert found.package == tmp_path / WHEEL
    assert found.environment == tmp_path / "lab.yaml"
    assert found.steps[1].files == (tmp_path / "test_it.py",)
    assert (found.kernels, found.baseline) == (("stock", "patched"), "stock")


WRONG = {
    "no name": (SMALL.replace('name = "flush-v3"', ""), "the plan has no 'name'"),
    "a name with a slash": (SMALL.replace("flush-v3", "a/b"), "'a/b' is not a name"),
    "no runners": ('name = "a"\n[[steps]]\nrun = "bench"\n', "the plan has no 'runners'"),
    "a count of zero": (
        SMALL.replace("count = 2", "count = 0"),
        "runners[0]: 'count' is 0; it must be from 1 to 10000",
    ),
    "a count that is true": (SMALL.replace("count = 2", "count = true"), "runners[0]: 'count' is True, which is not a"),
    "no tag": (SMALL.replace('{ iommu = "vtd", coherency = "non-coherent" }', "{}"), "would match every machine"),
    "a tag of one letter": (SMALL.replace("iommu =", "i ="), "runners[0]: 'filter' has i = 'vtd', which is not a tag"),
    "an unknown step": (SMALL.replace('"validate"', '"fuzz"'), "steps[0]: 'run' is 'fuzz', which is not one of val"),
    "an unknown key": (SMALL.replace("deadline", "dedline"), "steps[0]: the key 'dedline' is unknown"),
    "a time without unit": (
        SMALL.replace("20min", "20"),
        "'deadline' is '20', which is not a time of at most a year: write 90s, ",
    ),
    "a time of zero": (SMALL.replace("20min", "0s"), "'deadline' is '0s', which is not a time of at most"),
    "two steps of one name": (SMALL + '[[steps]]\nrun = "validate"\n', "'validate' appears twice"),
    "a file that is not there": (SMALL + 'files = ["t.py"]\n', "t.py does not exist"),
    "a file of the run": (SMALL + 'files = ["status"]\n', "has the name 'status', which the run itself uses"),
    "the root directory": (SMALL + 'files = ["/"]\n', "has the name ''"),
    "a baseline alone": ('baseline = "installed"\n' + SMALL, "no other kernel to compare"),
    "an unknown baseline": ('baseline = "old"\n' + SMALL, "'old' is not one of the kernels: installed"),
    "a kernel nobody boots": ('kernels = ["patched"]\n' + SMALL, "'patched' needs 'environment'"),
    "a count without measure": (SMALL.replace("count = 2", f"count = {10**30}"), "it must be from 1 to 10000"),
    # Python reads any number of hexadecimal digits, and refuses to write as many decimal ones.
    "a count of 6000 hexadecimal digits": (
        SMALL.replace("count = 2", f"count = 0x{'f' * 6000}"),
        f"runners[0]: 'count' is 0x{'f' * 38}...; it must be from 1 to 10000",
    ),
    "repetitions of 20000 binary digits": (f"repetitions = 0b{'1' * 20000}\n" + SMALL, "it must be from 1 to 10000"),
    "a step of 5000 characters": (SMALL.replace('"validate"', f'"{"x" * 5000}"'), "...', which is not one of"),
    "a time of 400 digits": (SMALL.replace("20min", "9" * 400 + "s"), "is not a time of at most a year"),
    "a time of 5000 digits": (SMALL.replace("20min", "9" * 5000 + "s"), "is not a time of at most a year"),
    "a time of a thousand years": (SMALL.replace("20min", "9999999h"), "is not a time of at most a year"),
    "a name of 5000 characters": (f'package = "{"x" * 5000}"\n' + SMALL, "cannot be read: File name too long"),
    "a folder for a file": ('package = "."\n' + SMALL, " is not a file"),
    "a device for a file": ('environment = "/dev/zero"\n' + SMALL, "/dev/zero is not a file"),
    "a NUL in a name": ('package = "a\\u0000b"\n' + SMALL, "'package' holds 'a\\x00b', which has a control character"),
    "a NUL in an option": (SMALL.replace("{bdf}", "\\u0000"), "'options' holds '\\x00', which has a control character"),
    "an escape code": ('python = "\\u001b[31m"\n' + SMALL, "'python' holds '\\x1b[31m', which has a control character"),
    "no Python": ('python = ""\n' + SMALL, "'python' is empty"),
    "no kernels": ("kernels = []\n" + SMALL, "kernels is empty, so nothing would run"),
    "no TOML": ("name = ", "is not TOML"),
    "runners that are not tables": ('name = "a"\nrunners = [1]\n', "runners[0] is not a table"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, case: str) -> None:
    text, message = WRONG[case]
    with pytest.raises(ToolError) as refused:
        plan(tmp_path, text)
    assert message in str(refused.value)
    assert str(tmp_path / "plan.toml") in str(refused.value)
    assert str(refused.value).isprintable()
    # A path is shown as it was typed.
    assert len(str(refused.value)) < (6000 if case == "a name of 5000 characters" else 600)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"vtd"', "true", "'filter' has iommu = True, which is not a tag"),
        ('"vtd"', "9" * 4000, "'filter' has iommu = 0x.*, which is not a tag"),
        ('"vtd"', "-1", "which is not a tag"),
        ('"vtd"', r'"a\nb"', "control character"),
        ('"flush-v3"', f'"{"x" * 101}"', "the name has 101 characters"),
        ("[[runners]]", 'baseline = ""\n[[runners]]', "'baseline' is empty"),
        ("[[runners]]", 'package = ""\n[[runners]]', "'package' is empty"),
        ('"--bind"', '"--json"', "'options' holds '--json', which the run itself decides"),
        ('"--bind"', '"--junit=x"', "the run itself decides"),
        ('"--bind"', f'"{"x" * 5000}"', "'options' holds a word of 5000 characters"),
        ('"20min"', '"20min"\nfiles = ["a", "b/a"]', "two of the 'files' have the name 'a'"),
        (
            "count = 2",
            f"count = {'9' * 5000}",
            "Exceeds the limit .4300 digits. for integer string conversion: .*5000 digits$",
        ),
    ],
)
def test_more_wrong_values(tmp_path: Path, old: str, new: str, reason: str) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a", "b/a"):
        (tmp_path / name).touch()
    assert old in SMALL
    with pytest.raises(ToolError, match=reason) as refusal:
        plan(tmp_path, SMALL.replace(old, new, 1))
    assert len(str(refusal.value)) < 300 + len(str(tmp_path))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(SMALL, "utf-8-sig")
    assert load_plan(path).name == "flush-v3"


def test_a_key_of_thousands_of_parts_takes_no_minutes(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="is larger than 64 KiB"):
        plan(tmp_path, ".".join("a" * 100_000) + " = 1")


@pytest.mark.parametrize(
    ("right", "wrong", "remedy", "choice"),
    [
        ("[[runners]]", "kernels = []\n[[runners]]", "; leave it out for the installed kernel; ", "[[runners]]"),
        (
            "[[runners]]",
            'package = "tool.whl"\n[[runners]]',
            "; keep the name it had; ",
            f'package = "{WHEEL}"\n[[runners]]',
        ),
        ("20min", "20", "write (90s), 20min or 2h; ", "{}"),
        ("flush-v3", "flush/v3", "use lower case letters, digits, '(_)', '.' and '-' only; ", "flush{}v3"),
        ('"--bind"', '"--bind", "--json"', "holds '--json', .*; leave it out; ", '"--bind"'),
        ('{ iommu = "vtd", coherency = "non-coherent" }', "{}", "; name a tag; ", '{ iommu = "vtd" }'),
        ("deadline", 'files = ["status"]\ndeadline', "; give another name; ", 'files = ["facts"]\ndeadline'),
    ],
)
def test_the_remedy_of_the_message_makes_the_plan_valid(
    tmp_path: Path, right: str, wrong: str, remedy: str, choice: str
) -> None:
    for name in ("tool.whl", WHEEL, "facts"):
        (tmp_path / name).touch()
    with pytest.raises(ToolError) as refused:
        plan(tmp_path, SMALL.replace(right, wrong, 1))
    found = re.search(remedy, str(refused.value))
    assert found is not None, refused.value
    plan(tmp_path, SMALL.replace(right, choice.format(*found.groups()) if found.groups() else choice, 1))
