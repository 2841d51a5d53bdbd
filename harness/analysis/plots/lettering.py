"""Text that figures can show: fonts, escapes for letters that no font has, names shortened in the middle."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

FONT = "DejaVu Sans"  # it comes with matplotlib
FALLBACKS = (  # families with Chinese, Japanese and Korean letters, in order; those that are installed are used
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
    "Unifont",
)


@cache
def families() -> list[str]:
    """The families that figures are written in: the first that has a letter shows it."""
    installed = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in FALLBACKS if name in installed)]


@cache
def _letters() -> frozenset[int]:
    """The code points that can be shown, in bold too."""
    shown: set[int] = set()
    for family in families():
        fonts = (
            get_font(findfont(FontProperties(family=[family], weight=weight))) for weight in ("normal", "bold")
        )
        regular, bold = (frozenset(font.get_charmap()) for font in fonts)
        shown |= regular & bold
    return frozenset(shown)


def escaped(text: str) -> str:
    r"""The text with each letter that no font has, or that is a control character, as `\u4e2d`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if _shows(letter) else _escape(letter) for letter in text)


def _shows(letter: str) -> bool:
    return letter.isprintable() and ord(letter) in _letters()


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def width(text: str) -> int:
    """Letters, where those of East Asian scripts count as two."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def shorten(text: str, letters: int) -> str:
    """At most so many letters: what is too much is left out in the middle, as in `begin…end`."""
    if width(text) <= letters:
        return text
    first, last, room = "", "", letters - 1
    for place in range(len(text)):
        letter = text[place // 2] if place % 2 == 0 else text[-1 - place // 2]
        room -= width(letter)
        if room < 0:
            break
        first, last = (first + letter, last) if place % 2 == 0 else (first, letter + last)
    return f"{first}…{last}"


def distinct(names: Sequence[str], letters: int) -> list[str]:
    """The names shortened, different ones still different: by a number where they read the same."""
    taken: dict[str, str] = {}  # shortened -> name
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        word, number = shorten(name, letters), 1
        while taken.setdefault(word, name) != name:
            number += 1
            mark = f" ({number})"
            word = shorten(name, letters - len(mark)) + mark
        found[name] = word
    return [found[name] for name in names]
