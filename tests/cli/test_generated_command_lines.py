# SPDX-License-Identifier: MIT
"""Generated bad values for every option of every command: one error, the right status, never a traceback."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from iommufd_py.cli import main
from iommufd_py.cli.commands import Command
from iommufd_py.cli.device import _Hexadecimal
from iommufd_py.cli.files import Directory, _File
from iommufd_py.cli.fleet import _PlaceName
from iommufd_py.cli.types import FiniteFloat, Name, Values, Whole, _Bdf, _Number

from iommufd_py.base.pci_address import MOCK
from iommufd_py.results import document
from tests.cli_here import run_cli
from tests.unit.results.bench_results import process_run, result

_SETTINGS = settings(
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    max_examples=6,
)
# The kernel cannot pass NUL in a command line. Bytes that are not UTF-8 arrive as surrogates.
_CHARACTERS = st.characters(exclude_characters="\0", codec="utf-8") | st.sampled_from("\udc80\udcff\x1b\r\n\t٤²")
_TEXT = st.text(_CHARACTERS, max_size=12) | st.sampled_from(["x" * 5000, "9" * 5000, "nan", "None", " "])
_NOT_A_NUMBER = st.sampled_from(
    ["nan", "inf", "-inf", "1e999", "0x", "1_0", "٤", "²", "9" * 5000, "--", "1 2", "½", "NaN", "e", "-"]
)


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that is not a group, with the words that call it."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*words, name))


def wrong(kind: click.ParamType[Any]) -> st.SearchStrategy[str] | None:
    """Return texts that are not values of a type; None for a type that accepts every text."""
    match kind:
        case Values():
            inner = wrong(kind._each)
            return None if inner is None else inner | st.just("")
        case Whole() | FiniteFloat():
            outside = [st.just("9" * 30), st.just("-1")] + ([st.just("0")] if kind.min and kind.min > 0 else [])
            return st.one_of(_NOT_A_NUMBER, *outside, _TEXT.filter(lambda text: not _is_number(text)))
        case _Number() | _Bdf() | _Hexadecimal() | _PlaceName() | click.Choice():
            return _TEXT.filter(lambda text: not _is_value(kind, text))
        case _ if kind.name == "uuid":
            lenient = ["0x345678123412341234123456789abc01", "{12345678-1234-1234-1234-123456789012}"]
            return _TEXT | st.sampled_from(lenient)
        case Name():
            return st.sampled_from(["", "  ", "a\x1b[31m", "\n", "\udcff"])
        case _File():
            return st.sampled_from(["", "x/", "/"]) if kind._output else st.just("")
        case Directory():
            return st.sampled_from(["", "-", "/dev/null", "/dev/full", "/etc/passwd"])
        case click.Path() if kind.exists:
            return st.sampled_from(["", "/nonexistent", "x" * 300, "/etc/passwd/x"])
        case click.Tuple():  # One word is too few.
            return st.just("x")
        case _ if kind.name == "number" or kind.name == "size":  # These axes also accept a word.
            return _NOT_A_NUMBER
    return None


def _is_number(text: str) -> bool:
    return bool(text.strip()) and text.strip("+-.eE0123456789") == "" and text.isascii()


def _is_value(kind: click.ParamType[Any], text: str) -> bool:
    try:
        kind.convert(text, None, None)
    except click.BadParameter:
        return False
    return True


# One right value of each type, for the other required options of a command.
_RIGHT = {"bdf": "0000:00:1f.7", "file": "/dev/null", "shell": "bash"}


def _needed(command: click.Command, but: click.Parameter) -> list[str]:
    words: list[str] = []
    for one in command.params:
        if one.required and one is not but:
            value = _RIGHT.get(one.type.name, MOCK)
            words += [value] if isinstance(one, click.Argument) else [one.opts[0], value]
    return words


def _targets() -> Iterator[Any]:
    for words, command in leaves(main.iommufd):
        for parameter in command.params:
            strategy = wrong(parameter.type)
            if strategy is not None and not getattr(parameter, "is_flag", False):
                name = parameter.opts[0]
                yield pytest.param(words, command, parameter, strategy, id=f"{'-'.join(words)}-{name.lstrip('-')}")


@pytest.mark.parametrize(("words", "command", "parameter", "strategy"), [*_targets()])
def test_every_bad_value_is_wrong_usage(
    words: tuple[str, ...],
    command: click.Command,
    parameter: click.Parameter,
    strategy: st.SearchStrategy[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def accepted(**_: object) -> None:
        raise AssertionError("the value was accepted")

    monkeypatch.setattr(command, "callback", accepted)

    @_SETTINGS
    @given(strategy)
    def refuses(value: str) -> None:
        # The option comes first: after an argument it could belong to the command that `lab run` or `trace` runs.
        needed = _needed(command, parameter)
        option = isinstance(parameter, click.Option)
        typed = [f"{parameter.opts[0]}={value}", *needed] if option else [*needed, "--", value]
        status, out, err = run_cli(monkeypatch, *words, *typed)
        assert status == 2, err
        assert out == ""
        *_, last = err.splitlines()
        assert last.startswith("Error: ")
        assert len(last) < 2500
        assert all(one.isprintable() for line in err.splitlines() for one in line)

    refuses()


def test_every_option_with_a_restricted_value_is_tried() -> None:
    """The strategies leave out the options of unknown types. Every option that is left out must accept any text."""
    for words, command in leaves(main.iommufd):
        for parameter in command.params:
            if getattr(parameter, "is_flag", False) or wrong(parameter.type) is not None:
                continue
            for text in ("no-such-thing", "nan", "-1"):
                assert _is_value(parameter.type, text), (
                    f"{'-'.join(words)} {parameter.opts[0]}: add its type to wrong()"
                )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("bench run --device mock --size 4K --size 2M", "--size is given more than once: give all values in one list"),
        ("bench run --device mock --size 4K --size=4K", "--size is given more than once"),
        ("bench run --device mock --seconds 1 --seconds 2", "--seconds is given more than once: give one"),
        ("bench run --device mock --retry --no-retry", "--retry/--no-retry is given more than once"),
        ("bench run --device mock --device 3b:00.0", "--device is given more than once"),
        ("bench compare a b --threshold 5 --threshold 9", "--threshold is given more than once"),
        ("bench plot a --html x --html y", "--html is given more than once"),
        ("map --device mock --iova 0 --size 4K --iova 4K", "--iova is given more than once"),
        ("map --device mock --backing 4k --backing thp", "--backing is given more than once"),
        ("shell --device mock --device mock", "--device is given more than once"),
        ("lab run --coherent --non-coherent true", "--coherent/--non-coherent is given more than once"),
        ("lab run --cpus 1 --cpus 2 -- true", "--cpus is given more than once"),
        ("lab up --memory 1G --memory 2G --kernel stock", "--memory is given more than once"),
        ("trace --seconds 1 --seconds 2 true", "--seconds is given more than once"),
        ("device list --id 8086 --id 1b36", "--id is given more than once"),
        ("validate --device mock --brief --device mock", "--device is given more than once"),
        ("bisect --source /tmp --good a --bad b --bad c", "--bad is given more than once"),
    ],
)
def test_an_option_has_one_value(words: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = run_cli(monkeypatch, *words.split())
    assert (status, out) == (2, "")
    assert sentence in err.splitlines()[-1]


def test_options_with_several_values_and_other_commands_options_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = dict(leaves(main.iommufd))
    for name, words in (
        (("lab", "run"), "--append a --append b --rw /tmp --rw /var -- env --cpus 1 --cpus 2"),
        (("trace",), "--event map --event unmap true --seconds 1 --seconds 2"),
        (("bench", "run"), "--device mock --json --json --bind --bind"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(commands[name], "callback", lambda **_: None)
            assert run_cli(patched, *name, *words.split()) == (0, "", "")


def test_every_command_has_the_class_that_refuses_repeated_options() -> None:
    for words, command in leaves(main.iommufd):
        assert isinstance(command, Command), words


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document. Of a list only the first two elements count."""
    pairs = node.items() if isinstance(node, dict) else list(enumerate(node))[:2] if isinstance(node, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, (*path, key))


_GOOD = document.to_document(result(process_run([1000, 1100, 1200], [500, 600, 700])))
_PLACES = sorted(places(_GOOD), key=str)
_GONE = object()
_OTHER = st.sampled_from(
    [
        *(_GONE, None, "", "x", "\x1b[31m", "\ud800", True, [], {}, [None], [[]], {"": 0}),
        *(-1, 0, 1 << 63, 1 << 64, 10**400, 1.5, float("nan"), float("inf")),
    ]
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the files of all examples of a test."""
    return tmp_path_factory.mktemp("generated")


@settings(_SETTINGS, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(_PLACES), _OTHER), min_size=1, max_size=3))
@example([(("rows", 0, "runs", 0, "operations"), {})])
def test_every_damaged_result_is_refused_or_read(directory: Path, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    damaged = copy.deepcopy(_GOOD)
    for path, value in changes:
        _put(damaged, path, value)
    with pytest.MonkeyPatch.context() as patch:
        file, whole = directory / "damaged.json", directory / "whole.json"
        file.write_text(json.dumps(damaged))
        whole.write_text(json.dumps(_GOOD))
        for words in (("show",), ("compare", "--force", str(whole))):
            status, _, err = run_cli(patch, "bench", *words, str(file))
            assert status in (0, 1)
            assert "bug of iommufd-py" not in err
            if status:
                (line,) = err.splitlines()
                # A readable result need not have a row in common with the other one.
                named = "" if words[0] == "compare" else f"{file} "
                assert line.startswith(f"iommufd: error: {named}"), line


def _put(node: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return  # An earlier change removed it.
    if not isinstance(node, list if isinstance(path[-1], int) else dict):
        return
    if isinstance(node, list) and path[-1] >= len(node):
        return
    if value is not _GONE:
        node[path[-1]] = value
    elif isinstance(node, list) or path[-1] in node:
        del node[path[-1]]


@settings(_SETTINGS, max_examples=25)
@given(
    st.binary(max_size=200)
    | st.sampled_from([b"[" * 10_000, b'{"a":' * 10_000, b"9" * 5000, b"\0" * 100, b"\xef\xbb\xbf", b"null", b"NaN"])
)
def test_every_foreign_file_is_refused(directory: Path, content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        file = directory / "foreign.json"
        file.write_bytes(content)
        for words in (("show",), ("export",), ("compare", str(file))):
            status, out, err = run_cli(patch, "bench", *words, str(file))
            assert (status, out) == (1, "")
            (line,) = err.splitlines()
            assert line.startswith(f"iommufd: error: {file} ")
