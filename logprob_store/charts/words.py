"""Text from models and stores in charts: short, and without characters that draw nothing or turn the line around."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 40
_JOINERS: Final = frozenset("\u200c\u200d")
"""Parts of many emoji and scripts, though they print nothing by themselves."""


def short_text(text: object, longest: int = LONGEST) -> str:
    r"""A text for an axis, a legend or a hint: one line, at most so many characters.

    Args:
        text: any text; what is no text is written as one.
        longest: the most characters.

    >>> short_text("a\x00b\u202ec\n"), short_text("x" * 50, 5)
    ('a\ufffdb\ufffdc\ufffd', 'xxxx…')
    """
    written = str(text)
    shown = written if len(written) <= longest else f"{written[: longest - 1]}…"
    return "".join(char if char.isprintable() or char in _JOINERS else "\N{REPLACEMENT CHARACTER}" for char in shown)
