# SPDX-License-Identifier: MIT
"""The parts of matplotlib that pictures need, with its own defaults: a picture depends only on the results.

matplotlib reads ``matplotlibrc`` of the current directory, which can belong to anybody, and the environment.
"""

# ruff: noqa: E402 - The environment is changed before the import, which reads it.
import logging
import os
import unicodedata

from iommufd_py.results import scientific  # noqa: F401 - matplotlib loads numpy, for which there must be memory

# No window is opened, so the name of a program for windows has no use, and a wrong one fails the import.
os.environ.pop("MPLBACKEND", None)
# Otherwise the import complains about the files that the next statement overrides.
logging.getLogger("matplotlib").setLevel(logging.CRITICAL)

import matplotlib
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

matplotlib.rcdefaults()
# A label is text and not a formula, also if it has two dollar signs.
matplotlib.rcParams["text.parse_math"] = False

__all__ = [
    "Axes",
    "Axis",
    "Figure",
    "FuncFormatter",
    "LogLocator",
    "NullFormatter",
    "NullLocator",
    "drawable",
    "rc_context",
]

_FONT = get_font(findfont("DejaVu Sans"))


def drawable(text: str) -> str:
    """Return *text* with an escape for each character that the font of the pictures lacks: all would be equal boxes.

    A mark without a letter of its own gets an escape, too: hundreds of them can be on one letter.
    """
    return "".join(
        one if one == "\n" or (_FONT.get_char_index(ord(one)) and not unicodedata.combining(one)) else ascii(one)[1:-1]
        for one in unicodedata.normalize("NFC", text)
    )
