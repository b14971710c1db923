# SPDX-License-Identifier: MIT
"""Follow a remedy: provoke a message, do what it says, and see the same command succeed.

The remedy is a part of the message: a pattern finds it there. Only the choice that the message leaves to its reader,
such as the name of another file, comes from the test.
"""

import re
import subprocess
from collections.abc import Callable, Sequence

Cli = Callable[..., subprocess.CompletedProcess[str]]
Words = Sequence[str]
Change = Callable[[Words, re.Match[str]], Words]
"""Makes the words of a command as the message says."""


def message_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a command printed, on one line."""
    return " ".join((done.stdout + done.stderr).split())


def found_in(done: subprocess.CompletedProcess[str], pattern: str) -> re.Match[str]:
    """Return the match of *pattern* in the message of a command that failed or could observe nothing."""
    assert done.returncode in (1, 2, 4), message_of(done)
    found = re.search(pattern, message_of(done))
    assert found is not None, message_of(done)
    return found


def follow(cli: Cli, words: Words, pattern: str, change: Change) -> subprocess.CompletedProcess[str]:
    """Run a command that is refused, change its words as the message says, and check that it succeeds."""
    found = found_in(cli(*words), pattern)
    done = cli(*change(words, found))
    assert done.returncode == 0, message_of(done)
    return done


def leave_out(words: Words, found: re.Match[str]) -> Words:
    """Leave out the option that the message names, with its value."""
    at = words.index(found[1])
    has_value = at + 1 < len(words) and not words[at + 1].startswith("--")
    return [*words[:at], *words[at + 1 + has_value :]]


def use(words: Words, found: re.Match[str]) -> Words:
    """Give all options that the message names the values that it names; the names and values are in turn."""
    groups = found.groups()
    for option, value in zip(groups[::2], groups[1::2], strict=True):
        words = _with(words, option, value)
    return words


def give(value: str) -> Change:
    """Give the option that the message names this value."""
    return lambda words, found: _with(words, found[1], value)


def without(word: str) -> Change:
    """Keep the option that the message names, and leave out this word, which contradicts it."""
    return lambda words, found: [one for one in words if one != word]


def in_place_of(refused: str) -> Change:
    """Take the word that the message names in place of the refused one."""
    return lambda words, found: [found[1] if word == refused else word for word in words]


def end_with(word: str) -> Change:
    """Choose another last word."""
    return lambda words, found: [*words[:-1], word]


def _with(words: Words, option: str, value: str) -> Words:
    if option in words:
        at = words.index(option)
        return [*words[: at + 1], value, *words[at + 2 :]]
    return [*words, option, value]
