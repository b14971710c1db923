# SPDX-License-Identifier: MIT
"""Print the tests in tests/mock that depend on a file changed since main; for ./scripts/check --native."""

import subprocess
import sys
from pathlib import Path

from scripts.inputs import ALWAYS, PYTEST, closure

ROOT = Path(__file__).resolve().parent.parent
# The walk takes thousands of steps, so only scripts/test runs it.
_LONG = ("tests/mock/test_model.py",)


def changed_files() -> set[Path]:
    """Return the files that changed since this branch left main, and the untracked files.

    Raises:
        SystemExit: this clone has no branch main.
    """
    try:
        base = _git("merge-base", "HEAD", "main")[0]
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip()
        sys.exit(f"scripts/check: cannot find the changes since main: {reason}; run: git fetch origin main:main")
    names = [*_git("diff", "--name-only", base), *_git("ls-files", "--others", "--exclude-standard")]
    return {ROOT / name for name in names}


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def main() -> None:
    """Print the tests."""
    changed = changed_files()
    for test in sorted((ROOT / "tests" / "mock").rglob("test_*.py")):
        name = str(test.relative_to(ROOT))
        if name not in _LONG and changed & closure(ROOT, [name, *ALWAYS, *PYTEST]):
            print(name)


if __name__ == "__main__":
    main()
