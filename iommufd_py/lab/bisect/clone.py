# SPDX-License-Identifier: MIT
"""A clone of a developer's repository, in which `git bisect` runs and from which kernels are built.

The clone borrows the objects of the repository (``git clone --shared``). Nothing is ever written to the repository
itself: neither HEAD, nor the work tree, nor a ref, whatever ends the bisection.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from iommufd_py.lab.bisect.trial import Trial
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.process import run_tool

_FOUND = re.compile(r"^# (?:first bad commit|possible first bad commit): \[([0-9a-f]{40,64})\]", re.MULTILINE)
_STEPS = re.compile(r"\(roughly (\d+) steps?\)")
_ONLY_SKIPPED = "# only skipped commits left to test"


def _environment() -> dict[str, str]:
    """Return the environment of git: without the variables that a git hook, or the user's shell, aims elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"LC_ALL": "C"}


def _git(directory: Path, doing: str, *arguments: str, **variables: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return run_tool(command, doing, env=_environment() | variables).strip()


def resolve(repository: Path, revision: str) -> str:
    """Return the hash of the commit that *revision* names.

    Raises:
        LabError: there is no such commit, or no repository.
    """
    wanted = f"{revision}^{{commit}}"
    return _git(
        repository, f"{repository} has no commit {revision}", "rev-parse", "--verify", "--end-of-options", wanted
    )


def identity(repository: Path) -> str:
    """Return the path of the repository's objects and refs, the same for each of its work trees."""
    doing = f"{repository} is not a git repository"
    return _git(repository, doing, "rev-parse", "--path-format=absolute", "--git-common-dir")


def has_changes(repository: Path) -> bool:
    """Tell whether tracked files differ from HEAD; these changes are in no commit."""
    doing = f"cannot read the state of {repository}"
    # Without the lock git does not refresh the index, which would be a write.
    return bool(_git(repository, doing, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"))


class Clone:
    """The clone at *tree* of *repository*; made if it is not there.

    Raises:
        LabError: git cannot clone the repository.
    """

    def __init__(self, repository: Path, tree: Path) -> None:
        self.tree = tree
        self._said = ""
        if not (tree / ".git" / "HEAD").exists():
            shutil.rmtree(tree, ignore_errors=True)  # a part, left by a killed process
            tree.parent.mkdir(parents=True, exist_ok=True)
            options = ["--quiet", "--shared", "--no-checkout", "--no-tags"]
            doing = f"cannot clone {repository}"
            _git(tree.parent, doing, "clone", *options, "--", identity(repository), str(tree))

    def _run(self, *arguments: str, **variables: str) -> str:
        return _git(self.tree, f"git {arguments[0]} failed", *arguments, **variables)

    def restart(self, good: str, bad: str, trials: Sequence[Trial]) -> None:
        """Begin anew with what is known.

        Raises:
            LabError: git refuses, as where *good* is no ancestor of *bad* and a merge base is bad.
        """
        self._run("bisect", "reset")
        self._bisect("start", "--no-checkout", bad, good)
        for trial in trials:
            if trial.commit not in (good, bad):
                self.mark(trial)

    def mark(self, trial: Trial) -> None:
        """Tell git what was found out about a commit."""
        self._bisect(str(trial.verdict), trial.commit)

    def _bisect(self, *arguments: str) -> None:
        try:
            self._said = self._run("bisect", *arguments)
        except LabError:
            # git ends with a failure also where only skipped commits are left.
            if not self.suspects():
                raise

    def log(self) -> str:
        """Return the log, which ``git bisect replay`` takes."""
        return self._run("bisect", "log")

    def suspects(self) -> list[str]:
        """Return the first bad commit, or those that it may be where the rest were skipped; none while it goes on."""
        log = self.log()
        return _FOUND.findall(log) if _ONLY_SKIPPED in log or "# first bad commit" in log else []

    def next_commit(self) -> str | None:
        """Return the commit to test next, None where there is nothing left to test."""
        return None if self.suspects() else self._run("rev-parse", "--verify", "BISECT_HEAD")

    def left(self) -> int:
        """Return about how many commits are to be tested after the next one, as git estimates it."""
        steps = _STEPS.search(self._said)
        return int(steps[1]) if steps else 0

    def parents(self, commit: str) -> list[str]:
        """Return the parents of a commit."""
        return self._run("rev-list", "--parents", "-n1", commit).split()[1:]

    def subject(self, commit: str) -> str:
        """Return the first line of a commit's message."""
        return self._run("log", "-1", "--format=%s", commit)

    def read(self, commit: str, path: str) -> str:
        """Return the text of a file of a commit.

        Raises:
            LabError: the commit has no such file.
        """
        try:
            return self._run("cat-file", "blob", f"{commit}:{path}")
        except LabError:
            raise LabError(f"commit {commit[:12]} has no {path}: --source must be a kernel tree") from None

    def checkout(self, commit: str, patches: Sequence[Path] = ()) -> None:
        """Make the work tree that of *commit* with *patches*, which may be in the commit already.

        Only files that differ are written, so that make compiles no more than it must: a file with a patch that was in
        the work tree before, in the same form, is left alone.

        Raises:
            PatchError: a patch does not apply to the commit.
        """
        index = str(self.tree / ".git" / "patched-index")
        self._run("read-tree", commit, GIT_INDEX_FILE=index)
        for patch in patches:
            self._apply(patch, index)
        tree = self._run("write-tree", GIT_INDEX_FILE=index)
        self._run("read-tree", "--reset", "-u", tree)

    def _apply(self, patch: Path, index: str) -> None:
        try:
            self._run("apply", "--cached", str(patch.resolve()), GIT_INDEX_FILE=index)
        except LabError as failure:
            try:
                self._run("apply", "--cached", "--check", "--reverse", str(patch.resolve()), GIT_INDEX_FILE=index)
            except LabError:
                raise PatchError(f"{patch.name} does not apply: {failure}") from failure


class PatchError(LabError):
    """A patch that the lab needs does not apply to a commit."""
