# SPDX-License-Identifier: MIT
"""The picture of the package, drawn from the contract that import-linter holds."""

import ast
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The width of the text column of a page, in pixels. The page shows a picture of this width without scaling its letters.
_WIDTH, _GAP, _HEIGHT, _LINE = 736, 6, 50, 17
_NAME_PIXELS, _JOB_PIXELS = 17, 15
# Widths of letters of DejaVu Sans, one of the widest fonts, as parts of the size of the font.
_NARROW, _NARROW_PART, _WIDE_PART, _PART = "fijlrt.,:;'()/- ", 0.37, 0.77, 0.61


@dataclass(frozen=True)
class Room:
    """A package of the contract and the first sentence of its docstring."""

    name: str
    job: str


def floors() -> list[list[Room]]:
    """Return the rooms of the layers contract in pyproject.toml, the top floor first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [[_room(name.strip()) for name in layer.replace(":", "|").split("|")] for layer in layers]


def _room(name: str) -> Room:
    path = ROOT.joinpath(*name.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text())) or ""
    return Room(name.removeprefix("iommufd_py."), docstring.partition("\n")[0])


def picture(levels: list[list[Room]]) -> str:
    """Return the SVG: a row for a floor, a box for a room."""
    parts, top = [], 0
    for level in levels:
        width = (_WIDTH - _GAP * (len(level) - 1)) / len(level)
        wrapped = [_wrap(room.job, width - 20) for room in level]
        height = _HEIGHT + _LINE * (max(map(len, wrapped)) - 1)
        for column, (room, lines) in enumerate(zip(level, wrapped, strict=True)):
            left = column * (width + _GAP)
            parts.append(f'<g class="room"><title>{escape(room.name)}</title>')
            parts.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="4"/>')
            parts.append(f'<text class="name" x="{left + 10:.1f}" y="{top + 20}">{escape(room.name)}</text>')
            for number, line in enumerate(lines):
                y = top + 40 + number * _LINE
                parts.append(f'<text class="job" x="{left + 10:.1f}" y="{y}">{escape(line)}</text>')
            parts.append("</g>")
        top += height + _GAP
    style = (
        ".room rect{fill:#eef3fa;stroke:#4a6fa5}.room text{font-family:sans-serif;fill:#16283f}"
        f".room .name{{font-weight:bold;font-size:{_NAME_PIXELS}px}}.room .job{{font-size:{_JOB_PIXELS}px}}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {_WIDTH + 2} {top}" role="img"'
    return f'{head} aria-label="The rooms of the package"><style>{style}</style>{"".join(parts)}</svg>'


def _wrap(text: str, pixels: float) -> list[str]:
    lines = [""]
    for word in text.replace("`", "").split():
        if lines[-1] and _pixels(f"{lines[-1]} {word}") > pixels:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _pixels(text: str) -> float:
    wide = sum(letter.isupper() or letter in "mw_" for letter in text)
    narrow = sum(letter in _NARROW for letter in text)
    return _JOB_PIXELS * (wide * _WIDE_PART + narrow * _NARROW_PART + (len(text) - wide - narrow) * _PART)
