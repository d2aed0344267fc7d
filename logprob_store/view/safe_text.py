"""Text from models and servers, made safe to print: a terminal would obey the control characters in it."""

from __future__ import annotations

import json
import unicodedata
from typing import Final

_CONTROL_PICTURES: Final = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
# Cc: C0 and C1 controls. Cf: bidirectional overrides and other invisible formatting. Cs: lone surrogates. Zl, Zp: line
# and paragraph separators, at which some viewers begin a line.
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# The zero-width joiner and non-joiner (Cf) are part of many emoji and scripts, which would break without them.
_JOINERS: Final = frozenset("\u200c\u200d")


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with a visible symbol in place of every control character, so that no terminal acts on it.

    Args:
        text: any text.
        keep: characters to leave as they are, such as `"\n"`.

    >>> printable("\x1b[31mred\x1b[0m\n")
    '␛[31mred␛[0m␊'
    >>> printable("a\u202eb")
    'a\ufffdb'
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep else _visible(char) for char in text)


def printable_json(text: str) -> str:
    r"""JSON with an escape in place of each character that a terminal may act on: the same value, safe to print.

    >>> printable_json('{"text": "a\u202eb \x9b31m é"}')
    '{"text": "a\\u202eb \\u009b31m é"}'
    """
    if text.isprintable():
        return text
    return "".join(char if char == "\n" or not _is_unsafe(char) else json.dumps(char)[1:-1] for char in text)


def _visible(char: str) -> str:
    code = ord(char)
    if code in _CONTROL_PICTURES:
        return _CONTROL_PICTURES[code]
    return "\ufffd" if _is_unsafe(char) else char


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE and char not in _JOINERS
