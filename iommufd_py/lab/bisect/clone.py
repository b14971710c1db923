# SPDX-License-Identifier: MIT
"""A clone of the user's repository. `git bisect` runs in it, and the lab builds kernels from it.

The clone shares the objects of the repository (``git clone --shared``). A bisection never writes to the repository
itself: HEAD, work tree and refs stay unchanged, even if the bisection is killed.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from iommufd_py.lab import paths
from iommufd_py.lab.bisect.trial import Trial
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.process import run_tool

_FOUND = re.compile(r"^# (?:first bad commit|possible first bad commit): \[([0-9a-f]{40,64})\]", re.MULTILINE)
_STEPS = re.compile(r"\(roughly (\d+) steps?\)")
_ONLY_SKIPPED = "# only skipped commits left to test"


def _environment() -> dict[str, str]:
    """Return the environment of git, without variables of a hook or the user's shell that name another repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"LC_ALL": "C"}


def _git(directory: Path, doing: str, *arguments: str, **variables: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return run_tool(command, doing, env=_environment() | variables).strip()


def resolve(repository: Path, revision: str) -> str:
    """Return the hash of the commit that *revision* names.

    Raises:
        LabError: the commit or the repository does not exist.
    """
    wanted = f"{revision}^{{commit}}"
    return _git(
        repository, f"{repository} has no commit {revision}", "rev-parse", "--verify", "--end-of-options", wanted
    )


def identity(repository: Path) -> str:
    """Return the path of the repository's objects and refs. All its work trees share this path."""
    doing = f"{repository} is not a git repository"
    return _git(repository, doing, "rev-parse", "--path-format=absolute", "--git-common-dir")


def has_changes(repository: Path) -> bool:
    """Return whether tracked files differ from HEAD."""
    doing = f"cannot read the state of {repository}"
    # Without optional locks git does not refresh the index, which would write to the repository.
    return bool(_git(repository, doing, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"))


class Clone:
    """The clone of *repository* at *tree*. The constructor makes it if it does not exist.

    Raises:
        LabError: git cannot clone the repository.
    """

    def __init__(self, repository: Path, tree: Path) -> None:
        self.tree = tree
        self._said = ""
        if not (tree / ".git" / "HEAD").exists():
            shutil.rmtree(tree, ignore_errors=True)  # A killed process has left a part of a clone.
            paths.make(tree.parent)
            options = ["--quiet", "--shared", "--no-checkout", "--no-tags"]
            doing = f"cannot clone {repository}"
            _git(tree.parent, doing, "clone", *options, "--", identity(repository), str(tree))

    def _run(self, *arguments: str, **variables: str) -> str:
        return _git(self.tree, f"git {arguments[0]} failed", *arguments, **variables)

    def restart(self, good: str, bad: str, trials: Sequence[Trial]) -> None:
        """Start the bisection again, with the verdicts so far.

        Raises:
            LabError: git refuses, for example if *good* is not an ancestor of *bad* and a merge base is bad.
        """
        self._run("bisect", "reset")
        self._bisect("start", "--no-checkout", bad, good)
        for trial in trials:
            if trial.commit not in (good, bad):
                self.mark(trial)

    def mark(self, trial: Trial) -> None:
        """Tell git the verdict on a commit."""
        self._bisect(str(trial.verdict), trial.commit)

    def _bisect(self, *arguments: str) -> None:
        try:
            self._said = self._run("bisect", *arguments)
        except LabError:
            # git also ends with a failure if only skipped commits are left.
            if not self.suspects():
                raise

    def log(self) -> str:
        """Return the log, which ``git bisect replay`` reads."""
        return self._run("bisect", "log")

    def suspects(self) -> list[str]:
        """Return the first bad commit, or its candidates if only skipped commits are left; empty during the search."""
        log = self.log()
        return _FOUND.findall(log) if _ONLY_SKIPPED in log or "# first bad commit" in log else []

    def next_commit(self) -> str | None:
        """Return the commit to test next; None if no commit is left to test."""
        return None if self.suspects() else self._run("rev-parse", "--verify", "BISECT_HEAD")

    def left(self) -> int:
        """Return git's estimate of the number of commits to test after the next one."""
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
        """Check out *commit* and apply *patches*. A patch that the commit already has is left out.

        A file is written only if its content changes, so make compiles as little as possible. This holds for patched
        files, too.

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
