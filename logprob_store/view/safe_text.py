"""Text from models and servers made safe to show: it is data, and a terminal obeys data.

Holds the neutralising of control characters. Leaves out colours and layout.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_PICTURES: Final = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
# Cc: C0 and C1 controls. Cf: bidirectional overrides and other invisible formatting. Cs: lone surrogates.
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs"})
# Joiners are part of many emoji and scripts; showing them as boxes would break what they join.
_HARMLESS: Final = frozenset("\u200c\u200d")


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with every control character as a visible symbol, so that no terminal acts on it.

    Args:
        text: anything.
        keep: characters to leave as they are, such as `"\n"`.

    >>> printable("\x1b[31mred\x1b[0m\n")
    '␛[31mred␛[0m␊'
    >>> printable("a\u202eb")
    'a\ufffdb'
    """
    return "".join(char if char in keep else _visible(char) for char in text)


def _visible(char: str) -> str:
    code = ord(char)
    if code in _PICTURES:
        return _PICTURES[code]
    if unicodedata.category(char) in _UNSAFE and char not in _HARMLESS:
        return "\ufffd"
    return char
