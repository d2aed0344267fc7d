r"""The many ways in which one text can be written: JSON escapes, the spelling of a vocabulary, and forms of Unicode.

Which label a text spells is in `spelling`. HTML entities are deliberately not read: nothing in an answer says that it
is HTML, so an `&amp;` is the five letters that it shows.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAIR: Final = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE: Final = rb'\\(?:["\\/bfnrt]|' + _PAIR + rb"|u(?![dD][89abAB])[0-9a-fA-F]{4})"
_ESCAPED: Final = re.compile(rb"(?:[^\\]|" + _ESCAPE + rb")*+")
_ONE_ESCAPE: Final = re.compile(_ESCAPE)
_CUT_ESCAPE: Final = re.compile(
    rb"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?))?\Z"
)

_BYTE_OF_LETTER: Final = {chr(byte): byte for byte in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))} | {
    chr(0x100 + number): byte for number, byte in enumerate((*range(0x21), *range(0x7F, 0xA1), 0xAD))
}
"""The alphabet of byte-level BPE, as GPT-2's `bytes_to_unicode` has it: "\u0120" (Ġ) is a space, "Ã©" an é."""

_WORD_BEGINS: Final = "\u2581"
"""SentencePiece's sign for the space before a word."""
_BYTE_PIECE: Final = re.compile(rb"<0x([0-9A-F]{2})>")

# What the eye does not see, and signs that look alike and that NFKD keeps apart.
_SAME_FORM: Final = dict.fromkeys(map(ord, "\xad\u200b\u200e\u200f\u2060\u20e3\ufe0e\ufe0f\ufeff")) | dict.fromkeys(
    map(ord, "\u2010\u2011\u2212"), "-"
)

_OTHER_MEANING: Final = ("<super>", "<sub>", "<fraction>")


def without_escapes(text: bytes) -> bytes | None:
    r"""The text with its JSON escapes read; None where it has none, or a backslash that begins none.

    An escape that the text ends within stays as it is.

    >>> without_escapes(rb"R\u00e9sum\u00"), without_escapes(rb"a\(b"), without_escapes(b"plain")
    (b'R\xc3\xa9sum\\u00', None, None)
    """
    if b"\\" not in text:
        return None
    whole = _ESCAPED.match(text)
    end = 0 if whole is None else whole.end()
    if end < len(text) and not _CUT_ESCAPE.match(text, end):
        return None
    read = _ONE_ESCAPE.sub(lambda escape: json.loads(b'"' + escape[0] + b'"').encode("utf-8", "replace"), text[:end])
    return read + text[end:]


def ends_within_escape(text: str) -> bool:
    r"""Whether a text is an escape that is not whole, as `\u00`."""
    return _CUT_ESCAPE.fullmatch(text.encode("utf-8", "surrogateescape")) is not None


def without_vocabulary_spelling(text: bytes) -> bytes | None:
    r"""The text that a spelling of a vocabulary stands for; None for a text that is no such spelling.

    Some servers show a token as the vocabulary has it: "Ġyes" (byte-level BPE) or "▁yes" (SentencePiece) for " yes".
    One text in plain letters is nearly never such a spelling of another; callers take it as it is where that fits.

    >>> without_vocabulary_spelling("RÃ©sumÃ©Ġ".encode()) == "Résumé ".encode()
    True
    >>> without_vocabulary_spelling("▁yes<0x0A>".encode()), without_vocabulary_spelling(b"yes")
    (b' yes\n', None)
    """
    if text.isascii() and not _BYTE_PIECE.search(text):
        return None
    letters = text.decode("utf-8", "surrogateescape")
    if _WORD_BEGINS in letters or text.isascii():
        plain = text.replace(_WORD_BEGINS.encode(), b" ")
        return _BYTE_PIECE.sub(lambda piece: bytes.fromhex(piece[1].decode()), plain)
    found = [_BYTE_OF_LETTER.get(letter) for letter in letters]
    return None if None in found else bytes(byte for byte in found if byte is not None)


def in_byte_alphabet(text: bytes) -> bytes:
    r"""The text as a vocabulary of byte-level BPE spells it.

    >>> in_byte_alphabet("né ".encode()).decode()
    'nÃ©Ġ'
    """
    letter_of_byte = {byte: letter for letter, byte in _BYTE_OF_LETTER.items()}
    return "".join(letter_of_byte[byte] for byte in text).encode()


def one_form(text: str) -> str:
    """The text in one form of Unicode: decomposed, without what the eye does not see, and with one hyphen.

    Full-width letters, ligatures and circled digits are the plain ones; a superscript, a subscript and a fraction stay,
    as 1\u00b2 is not 12. Decomposed and not composed, because a text that is being written has to stay a beginning: "e"
    begins "\u00e9".

    >>> one_form("\uff39es") == "Yes", one_form("\u00e9") == one_form("e\u0301"), one_form("non\u2011toxic 1\u00b2")
    (True, True, 'non-toxic 1\u00b2')
    """
    if text.isascii():
        return text
    plain = "".join(
        letter
        if unicodedata.decomposition(letter).startswith(_OTHER_MEANING)
        else unicodedata.normalize("NFKD", letter)
        for letter in text
    )
    return unicodedata.normalize("NFD", plain).translate(_SAME_FORM)


def cut_characters(text: str) -> Iterator[tuple[str, str]]:
    r"""Each place at which a token may cut a character of the text: what is before it, and the first bytes of it.

    The bytes of UTF-8 are lone surrogates, as Python decodes them; of a JSON escape they are its signs.

    >>> [*cut_characters("né")][:3]
    [('n', '\udcc3'), ('n', '\\'), ('n', '\\u')]
    """
    for place, letter in enumerate(text):
        raw, escaped = letter.encode(), json.dumps(letter)[1:-1]
        for size in range(1, len(raw)):
            yield text[:place], raw[:size].decode("utf-8", "surrogateescape")
        for size in range(1, len(escaped)):
            yield text[:place], escaped[:size]
