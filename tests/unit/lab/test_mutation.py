# SPDX-License-Identifier: MIT
"""Mechanical mutants: the lines that they change, and a compilation of the file with all of them."""

import subprocess
from pathlib import Path

import pytest

from iommufd_py.lab.mutation import Mutant, locate, mutants_of, with_mutants
from tests.waiting import patience

TEXT = """\
#include <stdio.h>

static int count, mark;

static int fill(int pages, int cold)
{
	int done = 0;

	if (cold && pages > 1) {
		count += pages;
		mark = 1;
	} else if (!pages)
		mark = 0;
	for (; done < pages; done++)
		printf("flush %d\\n",
			done);
	if (mark)
		count++;
	return count;
}

int main(void)
{
	int first = fill(3, 1);

	printf("%d %d\\n", first, fill(0, 0));
	return 0;
}
"""
ALL = range(1, TEXT.count("\n") + 1)


def found(added: range | set[int] = ALL) -> list[Mutant]:
    return mutants_of("a.c", TEXT, added)


def test_each_operator_changes_its_line() -> None:
    changes = {(one.line, one.operator, one.after) for one in found()}
    assert (9, "condition negated", "!(cold && pages > 1)") in changes
    assert (9, "or for and", "cold || pages > 1") in changes
    assert (9, "not greater but greater or equal", "cold && pages >= 1") in changes
    assert (10, "statement dropped", "") in changes
    assert (10, "minus for plus", "count -= pages;") in changes
    assert (10, "done after the next statement", "mark = 1;") in changes
    assert (18, "decrement for increment", "count--;") in changes
    lines = {line for line, _, _ in changes}
    assert not lines & {7, 14, 19}, "declarations, loops and returns stay"
    assert {15, 26} <= lines


def test_only_added_lines() -> None:
    assert {one.line for one in found({10, 15})} == {10}  # Only one line of the statement in lines 15 and 16 was added.
    assert {one.line for one in found({15, 16})} == {15}
    assert found(set()) == []


def test_numbers_are_dense_and_unique() -> None:
    mutants = mutants_of("a.c", TEXT, ALL, first_number=7)
    assert [one.number for one in mutants] == list(range(7, 7 + len(mutants)))


def run(tmp_path: Path, number: int) -> str:
    done = subprocess.run(
        [tmp_path / "a.out", str(number)], capture_output=True, text=True, check=False, timeout=patience(2)
    )
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text with all mutants, compiled; its first argument selects one."""
    directory = tmp_path_factory.mktemp("mutants")
    text = with_mutants(TEXT, ALL, found()).replace("#include <linux/iommufd_mutant.h>", "#include <stdlib.h>")
    text = text.replace(
        "#include <stdio.h>",
        "#include <stdio.h>\n#include <stdbool.h>\n#define mutant(n) (selected == (n))\nstatic int selected;",
    )
    text = text.replace("int main(void)\n{", "int main(int argc, char **argv)\n{\n\tselected = atoi(argv[1]);")
    (directory / "a.c").write_text(text)
    subprocess.run(["gcc", "-Werror", "-o", directory / "a.out", directory / "a.c"], check=True)
    return directory


def test_number_0_is_the_original(program: Path, tmp_path: Path) -> None:
    (tmp_path / "b.c").write_text(TEXT)
    subprocess.run(["gcc", "-o", tmp_path / "a.out", tmp_path / "b.c"], check=True)
    assert run(program, 0) == run(tmp_path, 0) != ""


def test_each_number_is_one_change(program: Path) -> None:
    original = run(program, 0)
    outputs = {one.number: run(program, one.number) for one in found()}
    by_text = {(one.line, one.operator): outputs[one.number] for one in found()}
    assert by_text[15, "statement dropped"] == "4 4\n"
    assert by_text[10, "statement dropped"] == original.replace("4 4", "1 1")
    assert by_text[9, "condition always false"] == original.replace("4 4", "0 0")
    # The two statements do not depend on each other.
    assert by_text[10, "done after the next statement"] == original
    assert sum(output != original for output in outputs.values()) > len(outputs) // 2


def test_lines_lead_back_to_mutants() -> None:
    mutants = {one.number: one for one in found()}
    text = with_mutants(TEXT, ALL, list(mutants.values()))
    where = locate(text, mutants)
    assert {number for numbers in where.values() for number in numbers} == set(mutants)
    for line, numbers in where.items():
        assert all(f"mutant({number})" in text.split("\n")[line - 1] for number in numbers)


def test_a_choice_of_mutants() -> None:
    chosen = [one for one in found() if one.line == 10][:1]
    text = with_mutants(TEXT, ALL, chosen)
    assert text.count("mutant(") == 1
    assert "count += pages;" in text
