# SPDX-License-Identifier: MIT
"""Mechanical mutants of a kernel series: small changes of its added lines, switchable in one kernel. Pure.

Each mutant has a number. A statement becomes a chain ``if (mutant(1)) { ... } else { the original }``, a condition a
chain of ``mutant(1) ? (...) : (the original)``; the kernel parameter ``mutant`` selects one of them; 0 selects none.

The lexer knows the kernel's style, not all of C: it takes single statements and conditions on lines of their own, and
leaves declarations, loops, returns and labels alone.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

HEADER = "include/linux/iommufd_mutant.h"
HEADER_TEXT = """/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __LINUX_IOMMUFD_MUTANT_H
#define __LINUX_IOMMUFD_MUTANT_H
#include <linux/compiler.h>
extern unsigned int mutant_selected;
#define mutant(number) unlikely(READ_ONCE(mutant_selected) == (number))
#endif
"""
DEFINITION_FILE = "kernel/params.c"
DEFINITION_TEXT = """
#include <linux/iommufd_mutant.h>
unsigned int mutant_selected;
EXPORT_SYMBOL_GPL(mutant_selected);
core_param(mutant, mutant_selected, uint, 0644);
"""
PARAMETER = "/sys/module/kernel/parameters/mutant"

_STATEMENT = re.compile(r"^(?P<indent>\t+)(?P<text>[^\s#{}/*].*;)$")
_NOT_A_STATEMENT = re.compile(
    r"(?:return|goto|break|continue|case|default|else|do|while|for|if|switch|struct|union|enum|const|static|unsigned|"
    r"signed|int|long|short|char|bool|void|size_t|phys_addr_t|u8|u16|u32|u64|extern|typedef|"
    # Checks and reports. Dropping them does not change the behaviour of the kernel.
    r"lockdep_\w+|might_sleep|cond_resched|WARN_\w+|pr_\w+)\b"
)
# "type name;" or "type *name = ...": two words in a row.
_DECLARATION = re.compile(r"\w+\s+\**\w+\s*(?:[=;,\[])")
_CALL_OR_ASSIGNMENT = re.compile(r"(?:[\w>.\-\[\]*&()]+\s*(?:[-+|&]?=[^=]|\+\+|--)|[+-]{2}|\w+\()")
_CONDITION = re.compile(r"^(?P<indent>\t+)(?P<head>(?:\} else )?if) \((?P<text>.*)\)(?P<tail>(?: \{)?)$")

# (name of the operator, pattern, replacement), tried one by one at each site.
_REWRITES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("and for or", re.compile(r" \|\| "), " && "),
    ("or for and", re.compile(r" && "), " || "),
    ("not less but less or equal", re.compile(r" < "), " <= "),
    ("not less or equal but less", re.compile(r" <= "), " < "),
    ("not greater but greater or equal", re.compile(r" > "), " >= "),
    ("not greater or equal but greater", re.compile(r" >= "), " > "),
    ("equal for unequal", re.compile(r" != "), " == "),
    ("unequal for equal", re.compile(r" == "), " != "),
    ("minus for plus", re.compile(r" \+ "), " - "),
    ("plus for minus", re.compile(r" - "), " + "),
    ("division for multiplication", re.compile(r" \* "), " / "),
    ("decrement for increment", re.compile(r"\+\+"), "--"),
    ("increment for decrement", re.compile(r"--(?!>)"), "++"),
    ("minus for plus", re.compile(r" \+= "), " -= "),
    ("plus for minus", re.compile(r" -= "), " += "),
    ("false for true", re.compile(r"\btrue\b"), "false"),
    ("true for false", re.compile(r"\bfalse\b"), "true"),
    ("1 for 0", re.compile(r"(?<![\w.])0(?![\w.])"), "1"),
    ("0 for 1", re.compile(r"(?<![\w.])1(?![\w.])"), "0"),
    ("no negation", re.compile(r"!(?=[\w(])"), ""),
    ("1 for PAGE_SIZE", re.compile(r"\bPAGE_SIZE\b"), "1"),
)
_NEGATIONS = ("equal for unequal", "unequal for equal", "no negation")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mechanical change.

    Attributes:
        number: selects it at run time.
        file: path in the tree.
        line: number of its line in the file of the series, from 1.
        operator: name of the kind of change.
        before: the original statement or condition.
        after: the changed one, empty for a dropped statement.
        partner: line and new text of a second statement that changes with it; None for most.
    """

    number: int
    file: str
    line: int
    operator: str
    before: str
    after: str
    partner: tuple[int, str] | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.operator}: {self.before}"


@dataclass(frozen=True, slots=True)
class _Site:
    """A statement or condition: its lines (from 0, last included) and its parts."""

    first: int
    last: int
    indent: str
    text: str
    head: str = ""
    tail: str = ""

    @property
    def is_condition(self) -> bool:
        return bool(self.head)


def mutants_of(file: str, text: str, added: Collection[int], first_number: int = 1) -> list[Mutant]:
    """Return the mutants of a file.

    Args:
        file: path in the tree.
        text: the file with the series applied.
        added: numbers of the lines that the series added or changed, from 1.
        first_number: number of the first mutant.
    """
    found: list[Mutant] = []
    for site, operator, after, partner in _changes(_sites(text.split("\n"), added)):
        number = first_number + len(found)
        other = None if partner is None else (partner.first + 1, site.text)
        found.append(Mutant(number, file, site.first + 1, operator, site.text, after, other))
    return found


def with_mutants(text: str, added: Collection[int], mutants: Sequence[Mutant]) -> str:
    """Return the text of a file, with code that selects one of *mutants* at run time. All of them are in this file."""
    lines = text.split("\n")
    by_line: dict[int, list[tuple[int, str]]] = {}
    for one in mutants:
        for line, after in ((one.line, one.after), *((one.partner,) if one.partner else ())):
            by_line.setdefault(line - 1, []).append((one.number, after))
    for site in reversed(_sites(lines, added)):
        chosen = by_line.get(site.first)
        if chosen:
            lines[site.first : site.last + 1] = _chain(site, chosen)
    return _with_include("\n".join(lines))


def locate(text: str, numbers: Mapping[int, Mutant]) -> dict[int, list[int]]:
    """Return the mutants on each line (from 1) of a text with mutants. A compiler's error then names its mutants."""
    found: dict[int, list[int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        here = [int(one) for one in re.findall(r"\bmutant\((\d+)\)", line) if int(one) in numbers]
        if here:
            found[number] = here
    return found


def _sites(lines: Sequence[str], added: Collection[int]) -> list[_Site]:
    """Find the statements and conditions that consist of added lines only."""
    sites = []
    at = 0
    while at < len(lines):
        site = _site_at(lines, at)
        if site is not None and all(number + 1 in added for number in range(site.first, site.last + 1)):
            sites.append(site)
            at = site.last
        at += 1
    return sites


def _site_at(lines: Sequence[str], first: int) -> _Site | None:
    """Read a statement or condition that begins in a line and can continue in the next lines."""
    if not re.match(r"^\t+[^\s#/*]", lines[first]) or (first and _is_continued(lines[first - 1])):
        return None
    text = lines[first].rstrip()
    for last in range(first, min(first + 6, len(lines))):
        if last > first:
            text += " " + lines[last].strip()
        if text.count("(") != text.count(")"):
            continue
        if last > first and lines[last - 1].rstrip().endswith("{"):
            return None  # This line is the head of a loop.
        condition = _CONDITION.match(text)
        if condition:
            head, tail = condition["head"], condition["tail"]
            return _Site(first, last, condition["indent"], condition["text"], head, tail)
        statement = _STATEMENT.match(text)
        if statement:
            return _Site(first, last, statement["indent"], statement["text"]) if _is_plain(statement["text"]) else None
    return None


def _is_continued(line: str) -> bool:
    """Return whether a statement continues after this line. A line that ends with a parenthesis is an if or a loop."""
    text = line.partition("/*")[0].rstrip()
    if not text or text.endswith((";", "{", "}", ":", "*/", ")")) or text.lstrip().startswith(("*", "#", "//")):
        return False
    return not re.search(r"^\s*(?:else|do)$|\belse$", text)


def _is_plain(text: str) -> bool:
    if _NOT_A_STATEMENT.match(text) or _DECLARATION.match(text):
        return False
    return bool(_CALL_OR_ASSIGNMENT.match(text)) and text.count('"') % 2 == 0


def _changes(sites: Sequence[_Site]) -> Iterator[tuple[_Site, str, str, _Site | None]]:
    """Yield the changes: the site, the operator, the new text, and the statement that it trades places with."""
    for site in sites:
        if site.is_condition:
            yield site, "condition negated", f"!({site.text})", None
            yield site, "condition always true", "true", None
            yield site, "condition always false", "false", None
        else:
            yield site, "statement dropped", "", None
        simple = site.is_condition and not re.search(r"&&|\|\|", site.text)
        for operator, pattern, replacement in _REWRITES:
            if simple and operator in _NEGATIONS:
                continue  # This change equals the negated condition.
            for match in pattern.finditer(site.text):
                after = site.text[: match.start()] + replacement + site.text[match.end() :]
                # Strings stay unchanged. The changes to true, false and the negation are made above.
                if site.text[: match.start()].count('"') % 2 == 0 and after not in ("true", "false", f"!{site.text}"):
                    yield site, operator, after, None
    for first, second in pairwise(sites):
        neighbours = second.first == first.last + 1 and first.indent == second.indent
        if neighbours and not first.is_condition and not second.is_condition:
            yield first, "done after the next statement", second.text, second


def _chain(site: _Site, changes: Sequence[tuple[int, str]]) -> list[str]:
    if site.is_condition:
        text = f"({site.text})"
        for number, after in reversed(changes):
            text = f"mutant({number}) ? ({after}) : {text}"
        return [f"{site.indent}{site.head} ({text}){site.tail}"]
    lines = [f"{site.indent}do {{"]
    lines += [f"{site.indent}\tif (mutant({number})) {{ {after} }} else" for number, after in changes]
    return [*lines, f"{site.indent}\t{{ {site.text} }}", f"{site.indent}}} while (0);"]


def _with_include(text: str) -> str:
    return re.sub(r"^#include ", "#include <linux/iommufd_mutant.h>\n#include ", text, count=1, flags=re.MULTILINE)
