"""Text from models and stores in charts: short, and without characters that draw nothing or turn the line around."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 40
_PICTURES: Final = {chr(code): chr(0x2400 + code) for code in range(0x20)} | {"\x7f": "\u2421"}
"""A symbol for each control character."""
_JOINERS: Final = frozenset("\u200c\u200d")
"""Parts of many emoji and scripts, though they print nothing by themselves."""


def short_text(text: object, longest: int = LONGEST) -> str:
    r"""A text for an axis, a legend or a hint: one line, at most so many characters.

    Args:
        text: any text; what is no text is written as one.
        longest: the most characters.

    >>> short_text("a\x00b\u202ec\n"), short_text("x" * 50, 5)
    ('a␀b\ufffdc␊', 'xxxx…')
    """
    written = str(text)
    shown = written if len(written) <= longest else f"{written[: longest - 1]}…"
    if shown.isprintable():
        return shown
    return "".join(char if char in _JOINERS else _visible(char) for char in shown)


def _visible(char: str) -> str:
    return char if char.isprintable() else _PICTURES.get(char, "\N{REPLACEMENT CHARACTER}")
