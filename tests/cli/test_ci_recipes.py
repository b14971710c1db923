# SPDX-License-Identifier: MIT
"""The CI recipes of the documentation: the steps of a runner that need no kernel."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs/how-to/ci"
KSELFTEST_SKIP = 4


def scripts() -> Iterator[tuple[str, str]]:
    """Yield each piece of shell with a name."""
    for path in sorted(RECIPES.glob("*.sh")):
        yield path.name, path.read_text()
    workflow = yaml.safe_load((RECIPES / "workflow.yml").read_text())
    for name, job in workflow["jobs"].items():
        for number, step in enumerate(job["steps"]):
            if "run" in step:
                yield f"workflow.yml {name} {number}", step["run"]
    for name, job in yaml.safe_load((RECIPES / "gitlab-ci.yml").read_text()).items():
        yield f"gitlab-ci.yml {name}", "\n".join([*job["before_script"], *job["script"]])


PIECES = dict(scripts())


@pytest.mark.parametrize("name", PIECES)
def test_is_shell(name: str) -> None:
    done = subprocess.run(["sh", "-n"], input=PIECES[name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_recipes_run_the_script_that_is_there() -> None:
    called = [name for text in PIECES.values() for name in re.findall(r"\bsh (\S+\.sh) \.", text)]
    assert len(called) == 2
    assert all((RECIPES / name).is_file() for name in called)


def test_recipes_install_what_the_lab_needs() -> None:
    """The packages are those of scripts/setup that build and boot kernels."""
    setup = (ROOT / "scripts/setup").read_text()
    found = re.search(r"^packages=\((.*?)libcap-dev", setup, re.MULTILINE | re.DOTALL)
    assert found is not None
    needed = set(found[1].split())
    installing = [text for text in PIECES.values() if "apt-get install" in text]
    assert len(installing) == 2
    for text in installing:
        assert needed <= set(text.replace("\n", " ").split()), needed - set(text.split())


def test_kselftest_skips_without_the_tool(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", RECIPES / "iommufd_validate.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == KSELFTEST_SKIP
    assert done.stdout.startswith("TAP version 13\n1..0 # SKIP ")
