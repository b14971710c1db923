# SPDX-License-Identifier: MIT
"""`iommufd shell` with files that are not Python: one sentence, status 2, and nothing runs. Needs no /dev/iommu."""

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from iommufd_py.cli.main import _text_of
from iommufd_py.cli.shell import _compile, _run, expect

from iommufd_py import ToolError
from iommufd_py.base.errors import NotSupportedError, ObjectNotFoundError

Cli = Callable[..., subprocess.CompletedProcess[str]]

NOT_PYTHON = {
    "text": b"this is no program",
    "table": b"[[step]\n",
    "latin-1": b"x = '\xe9'\n",
    "utf-16": "print(1)".encode("utf-16"),
    "nul": b"print(1)\0",
    "deep": b"x = " + b"(" * 5000,
    "long number": b"x = " + b"9" * 5000,
    "binary": bytes(range(256)),
    "escape": b"x = '\x1b[31mred\n",
}


@pytest.mark.parametrize("content", NOT_PYTHON.values(), ids=NOT_PYTHON)
def test_a_file_that_is_not_python(cli: Cli, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "report.py"
    file.write_bytes(content)
    answer = cli("shell", str(file))
    assert (answer.returncode, answer.stdout) == (2, "")
    sentence = answer.stderr.splitlines()[-1]
    assert sentence.startswith("Error: ") and "report.py" in sentence and "is not Python: " in sentence
    assert sentence.isprintable() and "Traceback" not in answer.stderr


@pytest.mark.parametrize("file", ["/nonexistent", "/", ""])
def test_a_file_that_cannot_be_read(cli: Cli, file: str) -> None:
    answer = cli("shell", file)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_file_is_a_program_or_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "report.py"
    file.write_bytes(content)
    try:
        _compile(file)
    except click.UsageError as failure:
        assert failure.message.isprintable() and "is not Python" in failure.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("step", "line 1: NameError: name 'step' is not defined"),
        ("\nraise ValueError('\\x1b[31m')", r"line 2: ValueError: \x1b[31m"),
        ("with expect('EEXIST'):\n    pass", "line 1: EEXIST was expected, but there was no error"),
        ("with expect(5):\n    pass", "line 1: ValueError: 5 is not the name of an error"),
        ("with expect('errorcode'):\n    pass", "line 1: ValueError: 'errorcode' is not the name of an error"),
        ("def inner():\n    return 1 / 0\ninner()", "line 2: ZeroDivisionError"),
    ],
)
def test_an_error_names_the_line_of_the_program(tmp_path: Path, source: str, message: str) -> None:
    file = tmp_path / "report.py"
    file.write_text(source)
    with pytest.raises(ToolError) as failure:
        _run(_compile(file), {"expect": expect})
    assert f"report.py, {message}" in str(failure.value)


def test_an_error_that_is_no_exception_is_one_sentence_too(tmp_path: Path) -> None:
    """asyncio.CancelledError and the errors of some libraries are of BaseException only."""
    file = tmp_path / "report.py"
    file.write_text("import asyncio\nraise asyncio.CancelledError('cancelled')")
    with pytest.raises(ToolError, match=r"report\.py, line 2: CancelledError: cancelled"):
        _run(_compile(file), {})
    file.write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit):
        _run(_compile(file), {})


@pytest.mark.parametrize(
    ("body", "another"),
    [
        ("raise ValueError(self)", "ValueError"),
        ("return 5", "TypeError"),
        ("return str(self)", "RecursionError"),
        ("raise self", "Odd"),
    ],
)
def test_an_error_without_a_text_is_one_sentence_too(tmp_path: Path, body: str, another: str) -> None:
    file = tmp_path / "report.py"
    file.write_text(f"class Odd(BaseException):\n    def __str__(self):\n        {body}\nraise Odd")
    with pytest.raises(
        ToolError, match=rf"report\.py, line 4: Odd: no text, because its __str__\(\) raises {another}$"
    ):
        _run(_compile(file), {})


def test_an_error_of_a_library_without_a_text_is_our_bug() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise self

    try:
        raise Odd
    except Odd as failure:
        assert "Odd: no text, because its __str__() raises Odd (test_cli_shell.py:" in _text_of(failure)


def test_expected_errors() -> None:
    failure = ObjectNotFoundError(errno.ENOENT, "IOMMU_IOAS_UNMAP", {})
    with expect("ENOENT"):
        raise failure
    with pytest.raises(ToolError, match="EEXIST was expected, but"), expect("EEXIST"):
        raise failure


@pytest.mark.parametrize("name", ["EOPNOTSUPP", "ENOTSUP"])
def test_both_names_of_a_number_can_be_expected(name: str) -> None:
    """Messages say EOPNOTSUPP. Python's table of names has ENOTSUP only."""
    with expect(name):
        raise NotSupportedError(errno.EOPNOTSUPP, "IOMMU_HWPT_ALLOC", {})


def test_an_endless_standard_input_is_no_program(cli: Cli) -> None:
    with Path("/dev/zero").open("rb") as endless:
        done = cli("shell", stdin=endless)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "iommufd: error: /dev/stdin is larger than 16 MiB: give another file\n"
