"""The table of jobs, and the digest of the inputs of each."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.lab.source import SourceTree
from scripts import inputs, run_jobs
from scripts.installed import installed_packages
from scripts.jobs import JOBS, Job
from scripts.passed import Passed
from tests.files import write_files
from tests.waiting import patience

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = {
        "pyproject.toml": "",
        "scripts/setup": "",
        "tests/conftest.py": "",
        "cffi_build/abi/iommufd.h": "",
        "cffi_build/csrc/uapi.h": "",
        "cffi_build/build_ext.py": "",
        "cffi_build/build_uapi.py": "",
        "iommufd_py/__init__.py": "if TYPE_CHECKING:\n    from iommufd_py.api import *",
        "iommufd_py/api.py": "from iommufd_py.objects.ioas import Ioas",
        "iommufd_py/objects/__init__.py": "",
        "iommufd_py/objects/ioas.py": "class Ioas: ...",
        "iommufd_py/results/__init__.py": "",
        "iommufd_py/results/plot.py": "",
        "iommufd_py/results/bench.json": "",
        "iommufd_py/testing/plugin.py": "",
        "iommufd_py/fleet/__init__.py": "",
        "iommufd_py/fleet/tmt/run.sh": "",
        "cli/__init__.py": "",
        "cli/bench.py": "def plot():\n    from iommufd_py.results import plot\n",
        "tests/mock/test_ioas.py": "from iommufd_py import Ioas",
        "cli/main.py": "",
        "cli/dma.py": "",
        "tests/mock/test_cli.py": "from tests.programs import IOMMUFD\n[IOMMUFD, 'bench']",
        "tests/mock/test_group.py": "from iommufd_py.cli.main import iommufd",
        "tests/mock/conftest.py": "",
        "tests/mock/test_words.py": "from tests.programs import IOMMUFD\n\ndef test() -> None:\n    'A dma.'  # dma",
        "tests/mock/test_extension.py": "from iommufd_py import _uapi",
        "tests/mock/test_examples.py": "EXAMPLES = ROOT / 'docs/examples'\nREADME = ROOT / 'README.md'",
        "tests/mock/test_leaks.py": "PROGRAM = 'import iommufd_py.results.plot'",
        "tests/command_examples.py": 'NATIVE = "User-Mode Linux"\nLAB = "the lab"',
        "cli/examples/dma-check.console": "# on: User-Mode Linux\n\n$ iommufd dma check\nbench\n",
        "cli/examples/bench-run.console": "# on: the lab\n\n$ iommufd bench run\n",
        "tests/mock/test_reference.py": "from tests import command_examples\ncommand_examples.NATIVE",
        "docs/examples/map.py": "from iommufd_py.results import plot",
        "README.md": "",
        "scripts/tool": "#!/usr/bin/env python3\nfrom iommufd_py.results import plot",
    }
    write_files(tmp_path, files)
    return tmp_path


def names(checkout: Path, seed: str) -> set[str]:
    return {str(file.relative_to(checkout)) for file in inputs.closure(checkout, [seed])}


def test_a_public_name_leads_to_its_module(checkout: Path) -> None:
    assert "iommufd_py/objects/ioas.py" in names(checkout, "tests/mock/test_ioas.py")


def test_a_file_that_no_test_imports_does_not_count(checkout: Path) -> None:
    assert "iommufd_py/results/plot.py" not in names(checkout, "tests/mock/test_ioas.py")


def test_an_import_for_type_checkers_does_not_count(checkout: Path) -> None:
    assert "iommufd_py/api.py" not in names(checkout, "iommufd_py/results")


def test_a_test_that_starts_a_command_depends_on_it_and_on_imports_inside_its_functions(checkout: Path) -> None:
    found = names(checkout, "tests/mock/test_cli.py")
    assert {"cli/main.py", "cli/bench.py", "iommufd_py/results/plot.py"} <= found
    assert "cli/dma.py" not in found


def test_a_test_of_the_group_depends_on_all_commands(checkout: Path) -> None:
    assert {"cli/main.py", "cli/bench.py", "cli/dma.py"} <= names(checkout, "tests/mock/test_group.py")


@pytest.mark.parametrize(
    ("seed", "read"),
    [
        ("tests/mock/test_ioas.py", "tests/mock/conftest.py"),
        ("tests/mock/test_examples.py", "docs/examples/map.py"),
        ("tests/mock/test_examples.py", "README.md"),
        # The examples import it.
        ("tests/mock/test_examples.py", "iommufd_py/results/plot.py"),
        ("tests/mock/test_leaks.py", "iommufd_py/results/plot.py"),
        ("tests/mock/test_leaks.py", "iommufd_py/results/bench.json"),
        ("scripts/tool", "iommufd_py/results/plot.py"),
    ],
)
def test_a_file_that_is_read_without_an_import_counts(checkout: Path, seed: str, read: str) -> None:
    assert read in names(checkout, seed)


def test_the_data_of_a_package_counts_with_the_package(checkout: Path) -> None:
    (checkout / "tests/mock/test_tmt.py").write_text("from iommufd_py.fleet import tmt_files")
    assert "iommufd_py/fleet/tmt/run.sh" in names(checkout, "tests/mock/test_tmt.py")


@pytest.mark.parametrize(
    "changed",
    [
        "tests/mock/test_ioas.py",
        "iommufd_py/objects/ioas.py",
        "cffi_build/abi/iommufd.h",
    ],
)
def test_a_change_of_an_input_changes_the_digest(checkout: Path, changed: str) -> None:
    before = inputs.digest_inputs(checkout, ["tests/mock/test_ioas.py"])
    (checkout / changed).write_text("# changed")
    assert inputs.digest_inputs(checkout, ["tests/mock/test_ioas.py"]) != before


def test_a_change_elsewhere_and_another_folder_keep_the_digest(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = inputs.digest_inputs(checkout, ["tests/mock/test_ioas.py"])
    (checkout / "cli/bench.py").write_text("")
    assert inputs.digest_inputs(checkout, ["tests/mock/test_ioas.py"]) == before
    moved = checkout.rename(tmp_path_factory.mktemp("moved") / "checkout")
    assert inputs.digest_inputs(moved, ["tests/mock/test_ioas.py"]) == before


@pytest.mark.slow
def test_the_machine_of_the_tests_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    native = next(job for job in JOBS if job.kind == "native")
    assert run_jobs.key_of(native, "/kernels/a/linux") != run_jobs.key_of(native, "/kernels/b/linux")
    selftest = next(job for job in JOBS if job.name == "selftest")
    before = run_jobs.key_of(selftest, "")
    monkeypatch.setattr(run_jobs, "unpacked_trees", lambda: [SourceTree(Path("/src"), "7.3", "linux-source-7.3 7.3.9")])
    assert run_jobs.key_of(selftest, "") != before
    changed = run_jobs.key_of(selftest, "")
    monkeypatch.setattr(run_jobs, "_packages", lambda: ("pytest 1.0",))
    assert run_jobs.key_of(selftest, "") != changed


def test_the_packages_of_the_tests_count_and_no_others() -> None:
    names = [one.split()[0].lower() for one in installed_packages()]
    # pluggy is a package that pytest needs. pip is in each environment, and no test needs it.
    assert {"cffi", "pytest", "pluggy", "ruff"} <= set(names)
    assert {"pip", "sphinx", "iommufd-py"} & set(names) == set()
    assert len(names) == len(set(names))


def test_a_job_depends_on_the_programs_that_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[set[str], list[str]]] = []
    monkeypatch.setattr(
        run_jobs.inputs,
        "digest_inputs",
        lambda root, tests, words, always, ignored: asked.append((set(always) - set(inputs.ALWAYS), ignored)),
    )
    for job in (
        Job("host", ("true",), inputs=("tests/mock",), early=True),
        Job("guest", ("true",), "native", ("tests/mock",), early=True),
        Job("pytest", ("pytest", "tests/lab", "--ignore=tests/lab/test_long.py"), inputs=("tests/lab",), early=True),
    ):
        run_jobs.key_of(job, "")
    assert asked == [(set(), []), ({"cli/lab.py"}, []), (set(inputs.PYTEST), ["tests/lab/test_long.py"])]
    assert ROOT / "iommufd_py/lab/machine.py" in inputs.closure(ROOT, ["cli/lab.py"])


def test_an_ignored_file_of_a_folder_does_not_count(checkout: Path) -> None:
    ignored = ["tests/mock/test_examples.py"]
    found = {str(file.relative_to(checkout)) for file in inputs.closure(checkout, ["tests/mock"], ignored)}
    assert "tests/mock/test_ioas.py" in found and "README.md" not in found
    before = inputs.digest_inputs(checkout, ["tests/mock"], ignored=ignored)
    (checkout / ignored[0]).write_text("changed = 1")
    assert (
        inputs.digest_inputs(checkout, ["tests/mock"], ignored=ignored)
        == before
        != inputs.digest_inputs(checkout, ["tests/mock"])
    )


def test_an_example_of_the_reference_depends_on_its_command(checkout: Path) -> None:
    found = names(checkout, "tests/mock/test_reference.py")
    assert {"cli/examples/dma-check.console", "cli/dma.py"} <= found
    assert {"cli/examples/bench-run.console", "cli/bench.py"} & found == set()


def test_a_word_of_a_docstring_or_a_comment_is_no_command(checkout: Path) -> None:
    assert "cli/dma.py" not in names(checkout, "tests/mock/test_words.py")


def test_the_extension_is_no_public_name(checkout: Path) -> None:
    assert "iommufd_py/api.py" not in names(checkout, "tests/mock/test_extension.py")


def test_an_input_that_is_not_there_is_an_error(checkout: Path) -> None:
    with pytest.raises(FileNotFoundError, match="tests/gone"):
        inputs.closure(checkout, ["tests/gone"])


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_each_job_can_be_keyed(job: Job) -> None:
    assert len({other.name for other in JOBS}) == len(JOBS)
    assert bool(run_jobs.key_of(job, "")) == bool(job.inputs)


def test_no_job_runs_in_a_warm_guest_of_the_user() -> None:
    commands = [" ".join(job.command_line()) for job in JOBS]
    guests = [command for command in commands if "lab run" in command]
    assert len(guests) > 20
    assert [command for command in guests if "lab run --fresh" not in command] == []


def test_every_test_of_the_tree_belongs_to_a_job() -> None:
    """A folder of tests without a job would never run."""
    named = " ".join(" ".join(job.command) for job in JOBS)
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))}
    assert {folder for folder in folders if f"tests/{folder}" not in named} == set()
    # A job, or a test of tests/lab, boots a machine for each of these.
    on_machines = {path.stem.removeprefix("test_") for path in (ROOT / "tests/machines").glob("test_*.py")}
    booted = re.findall(r'run_there\("(\w+)"', (ROOT / "tests/lab/test_lab_machines.py").read_text())
    booted += re.findall(r"IOMMUFD_TEST_MACHINE=(\w+)", named)
    # A machine's name selects every file whose name starts with it.
    assert {name for name in on_machines if not any(name.startswith(one) for one in booted)} == set()


def test_contributing_lists_the_nightly_jobs() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text[text.index("## Nightly") : text.index("## Releases")], re.MULTILINE)
    listed = [name for row in rows for name in re.findall("`(.*?)`", row)]
    assert sorted(listed) == sorted(job.name for job in JOBS if job.nightly)


def run(tmp_path: Path, *jobs: Job) -> dict[str, str]:
    runner = run_jobs.JobRunner(Passed(tmp_path / "passed"), tmp_path)
    with runner.working(2):
        runner.add([(job, "key") for job in jobs])
    return {done.job.name: done.word for done in runner.done}


def test_a_job_is_skipped_after_it_passed_and_not_after_it_failed(tmp_path: Path) -> None:
    passed = Passed(tmp_path / "passed")
    run(tmp_path, Job("job", ("true",)))
    assert passed.has("job", "key") and not passed.has("job", "other key")
    # With --all, a job runs that passed before.
    run(tmp_path, Job("job", ("false",)))
    assert not passed.has("job", "key")


def test_the_status_of_a_command_is_the_result_of_its_job(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = run(
        tmp_path,
        Job("good", ("true",)),
        Job("bad", ("sh", "-c", "echo the reason; exit 1")),
        Job("cannot", ("sh", "-c", "exit 4"), may_be_impossible=True),
        Job("may-not", ("sh", "-c", "exit 4")),
    )
    assert words == {"good": "passed", "bad": "failed", "cannot": "impossible", "may-not": "failed"}
    assert "the reason" in capfd.readouterr().out


@pytest.mark.slow
def test_a_second_run_in_a_checkout_waits_for_the_first(tmp_path: Path) -> None:
    program = "from scripts.run_jobs import own_logs\nwith own_logs(Path(sys.argv[1])): print('mine')"
    command = [sys.executable, "-c", f"import sys; from pathlib import Path\n{program}", tmp_path]
    with run_jobs.own_logs(tmp_path):
        second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert second.stdout.readline() == "scripts/test: another run uses this checkout; waiting for its end\n"
        assert second.poll() is None
    assert second.communicate(timeout=patience(5))[0] == "mine\n"


def test_the_list_has_the_named_jobs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/test", "--list", "--only", "pt-*", "--only", "unit"])
    assert run_jobs.main() == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in listed] == [["unit", "pytest"], ["pt-kunit", "nightly"]]


def test_an_option_that_the_tests_do_not_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/test", "--fast"])
    with pytest.raises(SystemExit) as ended:
        run_jobs.main()
    assert ended.value.code == 2
    assert "unrecognized arguments: --fast" in capsys.readouterr().err
