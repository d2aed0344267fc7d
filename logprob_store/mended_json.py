"""JSON that parsers refuse for what is around or in it: cut out, decoded or escaped, so that all readers take it.

Gateways put text behind an answer or encode it once more; servers write line breaks into strings. The answer was paid
for, and is whole. What breaks off is not mended.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final

_BYTE_ORDER_MARKS: Final = {  # the marks of UTF-32 begin like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_FIRST_CHARACTERS: Final = b'{[de:"'
"""The characters that a text without a byte order mark may begin with: of JSON, and of an event."""

_PLAIN: Final = (b'{"', b"{\n", b"da")
"""How nearly all texts begin: JSON and events, one byte a character."""

_NULS: Final = bytes(3)
"""What stands beside such a character in UTF-32."""

_FRONT: Final = re.compile(rb"(?:\xef\xbb\xbf|\)\]\}',?|[\s\x00])*")
"""Blanks, NULs, a byte order mark, and the characters with which some gateways keep browsers from running JSON."""
_UTF8: Final = codecs.getincrementaldecoder("utf-8")
_PIECE_BYTES: Final = 1 << 14
_MORE: Final = re.compile(r'\{\s*"')
"""An object that is not empty: what stands behind an answer may take it back."""


def read_int(digits: str) -> float:
    """An integer; infinity where it has more digits than Python reads, which no count or time has.

    >>> read_int("12"), read_int("-" + "9" * 5000)
    (12, -inf)
    """
    try:
        return int(digits)
    except ValueError:
        return float(digits)


_DECODER: Final = json.JSONDecoder(strict=False, parse_int=read_int)


def mend(content: bytes) -> bytes | None:
    r"""The JSON object or the stream of events in a body that is neither; None if there is none.

    >>> mend(b'\0{"a": 1}\n<!-- proxy -->'), mend(b'"{\\"a\\": 1}"'), mend('{"a": 1}'.encode("utf-16"))
    (b'{"a": 1}', b'{"a": 1}', b'{"a": 1}')
    >>> mend(b'{"a": 1} {"error": "busy"}'), mend(b'{"a": 1')
    (None, None)
    """
    found = as_utf8(content)
    front = _FRONT.match(found)
    found = unquoted(found if front is None else found[front.end() :])
    mended = _cut_out_object(found) if found.startswith(b"{") else found
    return None if mended == content else mended


def _cut_out_object(content: bytes) -> bytes | None:
    """The object that a text begins with, its control characters escaped; None if it is none, or another is behind."""
    text = content.decode(errors="surrogateescape")
    try:
        value, end = _DECODER.raw_decode(text)
        if _MORE.search(text, end) is not None:
            return None
        kept = text[:end]
        if any(char < " " for char in kept):
            kept = _with_escapes(kept, value)
        return kept.encode(errors="surrogateescape")
    except (ValueError, RecursionError):
        return None


def _with_escapes(text: str, value: object) -> str:
    """The text of an object, written anew if strings in it have control characters."""
    try:
        json.loads(text, parse_int=read_int)
    except ValueError:
        return json.dumps(value)
    return text


def escape_control_characters(content: bytes) -> bytes | None:
    r"""JSON with control characters in its texts, as some servers send, as JSON; None if something else is wrong, too.

    >>> escape_control_characters(b'{"a": "x\x0by"}')
    b'{"a": "x\\u000by"}'
    """
    try:
        return json.dumps(json.loads(content, strict=False, parse_int=read_int)).encode()
    except (ValueError, RecursionError):
        return None


def unquoted(content: bytes) -> bytes:
    r"""What a JSON text holds, however often it was encoded; any other content as it is.

    >>> unquoted(b'"{\\"a\\": 1}"'), unquoted(b"null")
    (b'{"a": 1}', b'null')
    """
    while content.lstrip().startswith(b'"'):
        try:
            content = str(json.loads(content)).encode(errors="surrogatepass")
        except (ValueError, RecursionError):
            break
    return content


def loads_leniently(content: bytes) -> Any:
    """The value of JSON in UTF-8; an integer of too many digits is infinity, and a byte that is no UTF-8 is U+FFFD.

    Raises:
        ValueError: it is not JSON.

    >>> loads_leniently(b"[" + b"9" * 5000 + b"]")
    [inf]
    """
    return json.loads(content.decode(errors="replace"), parse_int=read_int)


def as_utf8(content: bytes) -> bytes:
    """A text in UTF-16 or UTF-32 as UTF-8; any other content as it is."""
    encoding = encoding_of(content[:4])
    return content if encoding is None else content.decode(encoding, "replace").encode()


def is_json(content: bytes) -> bool:
    """Whether bytes are JSON, as `loads_leniently` reads it."""
    try:
        loads_leniently(content)
    except (ValueError, RecursionError):
        return False
    return True


def encoding_of(head: bytes) -> str | None:
    r"""UTF-16 or UTF-32, where the first bytes of a text show it: by a mark, or by NULs between characters.

    >>> encoding_of(b"{\0\0\0"), encoding_of(b"\0{"), encoding_of(b'{"a"')
    ('utf-32-le', 'utf-16-be', None)
    """
    if head.startswith(_PLAIN):
        return None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if encoding is None and len(head) == len(_NULS) + 1:
        if head[0] in _FIRST_CHARACTERS and head[1:] == _NULS:
            return "utf-32-le"
        if head[3] in _FIRST_CHARACTERS and head[:3] == _NULS:
            return "utf-32-be"
    if encoding is None and len(head) > 1:
        if head[0] in _FIRST_CHARACTERS and not any(head[1::2]):
            return "utf-16-le"
        if head[1] in _FIRST_CHARACTERS and not any(head[0::2]):
            return "utf-16-be"
    return encoding


def is_utf8(content: bytes) -> bool:
    r"""Whether bytes are UTF-8, which a parser does not check in the strings that it skips.

    >>> is_utf8("caf\u00e9".encode()), is_utf8(b"caf\xe9")
    (True, False)
    """
    if content.isascii():
        return True
    # By pieces: a whole body as text is up to four times as large, and new memory for it takes longer than the check.
    decoder = _UTF8()
    view = memoryview(content)
    try:
        for start in range(0, len(view), _PIECE_BYTES):
            decoder.decode(view[start : start + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
