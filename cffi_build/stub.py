# SPDX-License-Identifier: MIT
"""Write the types of the compiled extension, for type checkers: ``python -m cffi_build.stub > iommufd_py/_uapi.pyi``.

It has every constant, structure and function of the extension, so the type checker reports a mistyped name.
"""

import re
import sys
from keyword import iskeyword
from pathlib import Path
from typing import Any

from iommufd_py._uapi import ffi, lib

CSRC = Path(__file__).parent / "csrc"

HEAD = """\
# SPDX-License-Identifier: MIT
# Written by `python -m cffi_build.stub`; a test compares.
from typing import Any, Literal, Self, overload

class _Struct:
    def __getitem__(self, index: int, /) -> Self: ...

"""

FFI = """\
    # The name of the structure is known at run time only, or the type is not a structure.
    @overload
    def new(self, ctype: str, init: Any = None, /) -> Any: ...
    def cast(self, ctype: str, value: Any, /) -> Any: ...
    def addressof(self, cdata: Any, /, *fields: str) -> Any: ...
    def sizeof(self, ctype: Any, /) -> int: ...
    def offsetof(self, ctype: str, *fields: str) -> int: ...
    def typeof(self, ctype: Any, /) -> Any: ...
    def list_types(self) -> tuple[list[str], list[str], list[str]]: ...
    def buffer(self, cdata: Any, size: int = -1, /) -> Any: ...
    def from_buffer(self, *args: Any, require_writable: bool = False) -> Any: ...
    def memmove(self, dest: Any, src: Any, n: int, /) -> None: ...

"""


def stub() -> str:
    """Return the text of ``_uapi.pyi``."""
    _, structures, _ = ffi.list_types()
    out = [HEAD]
    for name in structures:
        out.append(f"class {name}(_Struct):\n")
        fields = ffi.typeof(f"struct {name}").fields or []
        # A field without a name is a union, and `from` cannot be an attribute.
        named = [(field, kind) for field, kind in fields if field and not iskeyword(field)]
        out += [f"    {field}: {_type(kind.type)}\n" for field, kind in named] or ["    pass\n"]
        out.append("\n")
    out.append("class _Ffi:\n    NULL: Any\n")
    for name in structures:
        out.append("    @overload\n" + _line("new", f'ctype: Literal["struct {name} *"], init: Any = None, /', name))
    out += [FFI, "class _Lib:\n"]
    names = _parameter_names()
    for name in sorted(dir(lib)):
        value = getattr(lib, name)
        out.append(f"    {name}: int\n" if isinstance(value, int) else _function(name, ffi.typeof(value), names[name]))
    out.append("\nffi: _Ffi\nlib: _Lib\n")
    return "".join(out)


def _type(kind: Any) -> str:
    if kind.kind == "primitive":
        return "bool" if kind.cname == "_Bool" else "int"
    if kind.kind == "enum":
        return "int"
    if kind.kind == "void":
        return "None"
    if kind.kind == "struct" and re.fullmatch(r"struct \w+", kind.cname) and "$" not in kind.cname:
        return str(kind.cname.removeprefix("struct "))
    return "Any"


def _function(name: str, kind: Any, parameters: list[str]) -> str:
    typed = [f"{one}: {_type(argument)}" for one, argument in zip(parameters, kind.args, strict=True)]
    return _line(name, ", ".join([*typed, *(["/"] if typed else [])]), _type(kind.result))


def _line(name: str, parameters: str, result: str) -> str:
    """Return a method, wrapped as the formatter would."""
    listed = f"self, {parameters}" if parameters else "self"
    line = f"    def {name}({listed}) -> {result}: ...\n"
    return line if len(line) <= 121 else f"    def {name}(\n        {listed}\n    ) -> {result}: ...\n"


def _parameter_names() -> dict[str, list[str]]:
    text = "".join(header.read_text() for header in sorted(CSRC.glob("*.h")))
    found = {}
    for name, parameters in re.findall(r"\b(iommufd_\w+)\(([^()]*)\);", text):
        found[name] = [] if parameters == "void" else re.findall(r"(\w+)\s*(?:,|$)", parameters)
    return found


if __name__ == "__main__":
    sys.stdout.write(stub())
