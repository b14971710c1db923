# SPDX-License-Identifier: MIT
"""Bisections with real git in a small repository; a function replaces builds and guests."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result
from iommufd_py.cli.main import iommufd

from iommufd_py.lab import paths
from iommufd_py.lab.bisect import session
from iommufd_py.lab.bisect.clone import Clone, PatchError, has_changes
from iommufd_py.lab.bisect.search import ContradictionError, EndsError, Found
from iommufd_py.lab.bisect.session import bisect
from iommufd_py.lab.bisect.trial import CommitVerdict, Kind, Question, Trial
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.progress import Silent

# Each of these bisections runs git a hundred times.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("empty_cache")]

RULE = Question(Kind.RULE, "2")
MAP = Question(Kind.BENCH, "map 2M", 0.05)
COMMITS = 20


def git(tree: Path, *arguments: str) -> str:
    names = ("-c", "user.name=A", "-c", "user.email=a@b.example", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", "-C", tree, *names, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with COMMITS + 1 commits; its file ``number`` contains 0 in the first and COMMITS in the last."""
    path = tmp_path_factory.mktemp("original")
    git(path, "init", "-q")
    other = "".join(f"{line}\n" for line in range(20))
    stream = ""
    for number in range(COMMITS + 1):
        message, text = f"commit {number}", f"{number}\n"
        stream += f"commit refs/heads/main\ncommitter A <a@b.example> {number} +0000\ndata {len(message)}\n{message}\n"
        for name, content in (("number", text), *([("other", other)] if number == 0 else [])):
            stream += f"M 644 inline {name}\ndata {len(content)}\n{content}\n"
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input=stream, text=True, check=True)
    git(path, "reset", "-q", "--hard", "main")
    return path


@pytest.fixture
def tree(original: Path, tmp_path: Path) -> Path:
    """A copy of the repository."""
    return shutil.copytree(original, tmp_path / "linux")


def state(tree: Path) -> str:
    """Return the state of a repository: its status, its refs, and the time of each file, git's own files included."""
    files = sorted(f"{path} {path.stat().st_mtime_ns}" for path in tree.rglob("*") if path.is_file())
    return "\n".join([git(tree, "--no-optional-locks", "status"), git(tree, "for-each-ref"), *files])


class ByNumber:
    """Tests a commit by the number in its file. It reads the file from the work tree, as a build does."""

    def __init__(self, clone: Clone, answer: Callable[[int], CommitVerdict]) -> None:
        self.clone, self.answer = clone, answer
        self.asked: list[int] = []

    def examine(self, commit: str) -> Trial:
        self.clone.checkout(commit)
        number = int((self.clone.tree / "number").read_text())
        self.asked.append(number)
        return Trial(commit, self.answer(number), f"number {number}", 1.0)


def find(
    tree: Path, answer: Callable[[int], CommitVerdict], question: Question = RULE, good: str = f"HEAD~{COMMITS}"
) -> tuple[Found, list[int]]:
    made: list[ByNumber] = []

    def make(clone: Clone, *_: object) -> ByNumber:
        made.append(ByNumber(clone, answer))
        return made[-1]

    found = bisect(tree, good, "HEAD", question, Silent(), lambda text: None, make)
    return found, [number for one in made for number in one.asked]


def from_7(number: int) -> CommitVerdict:
    return CommitVerdict.BAD if number >= 7 else CommitVerdict.GOOD


def test_the_seventh_commit_is_found_in_few_steps_and_the_tree_is_not_touched(tree: Path) -> None:
    (tree / "other").write_text("not committed\n")
    (tree / "new").touch()
    before = state(tree)
    assert has_changes(tree)
    found, asked = find(tree, from_7)
    assert state(tree) == before
    assert found.first_bad == git(tree, "rev-parse", "HEAD~13")
    assert found.subjects[found.first_bad] == "commit 7"
    assert (found.bad_side.evidence, found.good_side.evidence) == ("number 7", "number 6")
    assert len(asked) == len(set(asked)) <= 7  # 2 for the good and the bad revision, and log2(20) between them


@pytest.mark.parametrize("first_bad", [1, 2, 10, 19, 20])
def test_any_commit_can_be_the_first_bad_one(tree: Path, first_bad: int) -> None:
    found, _ = find(tree, lambda number: CommitVerdict.BAD if number >= first_bad else CommitVerdict.GOOD)
    assert found.subjects[found.first_bad or ""] == f"commit {first_bad}"
    assert found.good_side.evidence == f"number {first_bad - 1}"


def test_the_log_can_be_pasted(tree: Path, tmp_path: Path) -> None:
    found, _ = find(tree, from_7)
    (tmp_path / "log").write_text(found.log + "\n")
    assert "# number 7" in found.log.splitlines()
    assert "is the first bad commit" in git(tree, "bisect", "replay", str(tmp_path / "log"))


def test_commits_that_do_not_build_are_skipped(tree: Path) -> None:
    found, asked = find(tree, lambda number: CommitVerdict.SKIP if 8 <= number <= 11 else from_7(number))
    assert found.subjects[found.first_bad or ""] == "commit 7"
    assert {8, 9, 10, 11} & set(asked)


def test_candidates_are_listed_if_only_skipped_commits_are_left(tree: Path) -> None:
    found, _ = find(tree, lambda number: CommitVerdict.SKIP if number in (6, 7, 8) else from_7(number))
    assert found.first_bad is None
    assert {found.subjects[one] for one in found.candidates} == {f"commit {number}" for number in (6, 7, 8, 9)}
    assert (found.bad_side.evidence, found.good_side.evidence) == ("number 9", "number 5")


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (CommitVerdict.GOOD, "the bad revision .* is not bad: number 20"),
        (CommitVerdict.BAD, "the good revision .* is not good: number 0"),
        (CommitVerdict.SKIP, "the good revision .* is not good: number 0"),
    ],
)
def test_a_bad_revision_that_is_good_or_a_good_one_that_is_bad(
    tree: Path, verdict: CommitVerdict, message: str
) -> None:
    with pytest.raises(EndsError, match=message):
        find(tree, lambda number: verdict)
    assert not list(paths.work_dir().glob("bisect/*/"))  # The clone is removed.


def test_a_fault_that_a_native_guest_does_not_show_is_searched_in_virtual_machines(tree: Path) -> None:
    guests: list[str] = []

    def make(clone: Clone, question: Question, guest: str, *_: object) -> ByNumber:
        guests.append(guest)
        return ByNumber(clone, lambda number: from_7(number) if guest == "vm" else CommitVerdict.GOOD)

    found = bisect(tree, f"HEAD~{COMMITS}", "HEAD", RULE, Silent(), lambda text: None, make)
    assert guests == ["native", "vm"]
    assert (found.guest, found.subjects[found.first_bad or ""]) == ("vm", "commit 7")
    assert len([trial for trial in found.trials if trial.evidence == "number 0"]) == 1


def test_an_interrupted_bisection_goes_on(tree: Path) -> None:
    asked: list[int] = []

    def interrupted(number: int) -> CommitVerdict:
        asked.append(number)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return from_7(number)

    before = state(tree)
    with pytest.raises(KeyboardInterrupt):
        find(tree, interrupted)
    assert state(tree) == before
    found, again = find(tree, from_7)
    assert found.subjects[found.first_bad or ""] == "commit 7"
    assert not set(again) & set(asked[:4])  # The interrupted commit is tested again.
    assert not list(paths.work_dir().glob("bisect/*/"))


def test_a_killed_bisection_goes_on_and_has_not_touched_the_tree(tree: Path, tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.unit.lab.test_bisect_search import *
def answer(number, asked=[]):
    asked.append(number)
    if len(asked) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return from_7(number)
find(Path({str(tree)!r}), answer)
"""
    before = state(tree)
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", program], cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
    assert killed.returncode == -9
    assert state(tree) == before
    found, asked = find(tree, from_7)
    assert found.subjects[found.first_bad or ""] == "commit 7"
    assert 0 not in asked


class TestTimings:
    """A verdict from times can be wrong, so it is tested again."""

    @pytest.mark.parametrize("lie", [CommitVerdict.GOOD, CommitVerdict.BAD])
    def test_a_wrong_verdict_is_taken_back(self, tree: Path, lie: CommitVerdict) -> None:
        told: set[int] = set()

        def sometimes_wrong(number: int) -> CommitVerdict:
            # One wrong verdict for each commit next to the change, where every bisection ends.
            if number in (6, 7) and number not in told:
                told.add(number)
                return lie
            return from_7(number)

        found, _ = find(tree, sometimes_wrong, MAP)
        assert found.subjects[found.first_bad or ""] == "commit 7"
        assert found.returns >= 1
        assert (found.bad_side.evidence, found.good_side.evidence) == ("number 7", "number 6")

    def test_rules_are_not_tested_twice(self, tree: Path) -> None:
        _, asked = find(tree, from_7)
        assert len(asked) == len(set(asked))

    def test_verdicts_that_change_each_time_are_no_result(self, tree: Path) -> None:
        last: dict[int, CommitVerdict] = {0: CommitVerdict.GOOD, COMMITS: CommitVerdict.BAD}

        def other_than_before(number: int) -> CommitVerdict:
            if number not in (0, COMMITS):
                last[number] = CommitVerdict.BAD if last.get(number) is CommitVerdict.GOOD else CommitVerdict.GOOD
            return last[number]

        with pytest.raises(ContradictionError, match="verdicts changed when tested again"):
            find(tree, other_than_before, MAP)

    def test_they_never_go_to_virtual_machines(self, tree: Path) -> None:
        with pytest.raises(EndsError, match="bad revision"):
            find(tree, lambda number: CommitVerdict.GOOD, MAP)


class TestClone:
    """The clone and its work tree."""

    @pytest.fixture
    def clone(self, tree: Path, tmp_path: Path) -> Clone:
        return Clone(tree, tmp_path / "clone")

    @pytest.fixture
    def patch(self, tree: Path, tmp_path: Path) -> Path:
        (tree / "other").write_text((tree / "other").read_text().replace("5\n", "five\n", 1))
        path = tmp_path / "five.patch"
        path.write_text(git(tree, "diff") + "\n")
        git(tree, "checkout", "-q", "other")
        return path

    def test_only_changed_files_are_written(self, clone: Clone, patch: Path) -> None:
        clone.checkout("HEAD", [patch])
        other, number = clone.tree / "other", clone.tree / "number"
        assert "five\n" in other.read_text()
        written = other.stat().st_mtime_ns
        clone.checkout("HEAD~3", [patch])
        assert (number.read_text(), "five\n" in other.read_text()) == ("17\n", True)
        assert other.stat().st_mtime_ns == written < number.stat().st_mtime_ns

    def test_a_patch_that_is_there_already_is_left_out(self, clone: Clone, tree: Path, patch: Path) -> None:
        git(tree, "apply", str(patch))
        git(tree, "commit", "-q", "-a", "-m", "five")
        clone.checkout(git(tree, "rev-parse", "HEAD"), [patch])
        assert "five\n" in (clone.tree / "other").read_text()

    def test_a_patch_that_does_not_fit(self, clone: Clone, tree: Path, patch: Path) -> None:
        (tree / "other").write_text("nothing\n")
        git(tree, "commit", "-q", "-a", "-m", "nothing")
        with pytest.raises(PatchError, match=r"five.patch does not apply"):
            clone.checkout(git(tree, "rev-parse", "HEAD"), [patch])

    def test_a_variable_of_git_does_not_lead_astray(
        self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere.index"))
        found, _ = find(tree, from_7)
        assert found.subjects[found.first_bad or ""] == "commit 7"

    def test_a_revision_that_is_none(self, tree: Path) -> None:
        with pytest.raises(LabError, match="has no commit nonsense"):
            find(tree, from_7, good="nonsense")

    def test_a_directory_that_is_no_repository(self, tmp_path: Path) -> None:
        (tmp_path / "plain").mkdir()
        with pytest.raises(LabError, match="has no commit HEAD"):
            bisect(tmp_path / "plain", "HEAD", "HEAD", RULE, Silent(), lambda text: None)

    def test_a_work_tree_of_a_repository(self, tree: Path, tmp_path: Path) -> None:
        git(tree, "worktree", "add", "-q", str(tmp_path / "second"), "HEAD~5")
        found, _ = find(tmp_path / "second", from_7, good=f"HEAD~{COMMITS - 5}")
        assert found.subjects[found.first_bad or ""] == "commit 7"

    def test_a_merged_branch(self, tree: Path) -> None:
        """The bad commit is on a merged branch."""
        git(tree, "checkout", "-q", "-b", "side", "HEAD~18")
        (tree / "other").write_text("side\n")
        git(tree, "commit", "-q", "-a", "-m", "the bad one")
        bad = git(tree, "rev-parse", "HEAD")
        git(tree, "checkout", "-q", "main")
        git(tree, "merge", "-q", "--no-edit", "side")

        class ByOther(ByNumber):
            def examine(self, commit: str) -> Trial:
                self.clone.checkout(commit)
                is_bad = (self.clone.tree / "other").read_text() == "side\n"
                return Trial(commit, CommitVerdict.BAD if is_bad else CommitVerdict.GOOD, "")

        def make(clone: Clone, *_: object) -> ByNumber:
            return ByOther(clone, from_7)

        found = bisect(tree, f"HEAD~{COMMITS}", "HEAD", RULE, Silent(), lambda text: None, make)
        assert found.first_bad == bad


class TestCommand:
    """The command line with real git; a function replaces builds."""

    @pytest.fixture(autouse=True)
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[int], CommitVerdict]]:
        answers = {"answer": from_7}

        def make(clone: Clone, *_: object) -> ByNumber:
            return ByNumber(clone, answers["answer"])

        monkeypatch.setattr(session, "bisect", partial(bisect, make_tester=make))
        return answers

    def call(self, tree: Path, *options: str) -> Result:
        ends = ["--source", str(tree), "--good", f"HEAD~{COMMITS}", "--bad", "HEAD"]
        return CliRunner().invoke(iommufd, ["bisect", *ends, *options])

    def test_text(self, tree: Path) -> None:
        answer = self.call(tree, "--rule", "2")
        assert answer.exit_code == 0
        assert f"rule 2: the first bad commit is\n    {git(tree, 'rev-parse', 'HEAD~13')} commit 7\n" in answer.stdout
        assert "git bisect start" in answer.stdout

    @pytest.mark.parametrize("options", [("--rule", "1"), ("--bench", "map 2M", "--threshold", "3%")])
    def test_json(self, tree: Path, options: tuple[str, ...]) -> None:
        answer = self.call(tree, *options, "--json")
        document = json.loads(answer.stdout)
        schema = json.loads((resources.files("iommufd_py.cli") / "schemas" / "iommufd-bisect-1.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(document)
        assert document["bad_side"]["subject"] == "commit 7"

    def test_only_skipped_commits_left(
        self, tree: Path, answers: dict[str, Callable[[int], CommitVerdict]], tmp_path: Path
    ) -> None:
        answers["answer"] = lambda number: CommitVerdict.SKIP if number == 7 else from_7(number)
        (tree / "number").write_text("changed\n")
        answer = self.call(tree, "--scenario", "map-non-coherent")
        assert answer.exit_code == 4
        assert "is one of these" in answer.stdout
        assert "has changes that are not committed" in answer.stderr

    @pytest.mark.parametrize(
        "options",
        [(), ("--rule", "1", "--test", "a"), ("--rule", "4"), ("--rule", "1", "--threshold", "5"), ("--bench", "map")],
    )
    def test_wrong_usage(self, tree: Path, options: tuple[str, ...]) -> None:
        assert self.call(tree, *options).exit_code == 2
