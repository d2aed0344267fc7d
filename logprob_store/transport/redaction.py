"""Removal of the API key, and of other secrets, from what a server sends: `[key]` takes their place.

A server that repeats a key is broken or hostile, and what it sends goes into tables, logs and a cache that may be
passed on to others. It may spell the key in other ways than it was sent: with the escapes of JSON, HTML or URLs, in
base64 or hexadecimal, or as a list of bytes. In a stream of events the key may be spread over several of them. A key
that is spread over several tokens is taken out of the text, and its pieces are left among the tokens.
"""

from __future__ import annotations

import base64
import logging
import re
from html.entities import html5
from typing import TYPE_CHECKING, Final

from logprob_store.sse import is_event_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_PLACEHOLDER: Final = b"[key]"
_PLACEHOLDER_AS_BYTES: Final = b"91,107,101,121,93"
"""The placeholder as the bytes of a token."""
_SHORTEST_SECRET: Final = 12
"""Characters. A shorter key is a dummy for servers that need none, and may occur in any answer."""
_STREAMED: Final = [
    re.compile(rb'"%s"\s*:\s*"((?:[^"\\]|\\.)*)"' % name)
    for name in (b"content", b"text", b"delta", b"refusal", b"reasoning(?:_content)?", b"arguments")
]
"""The texts that an event adds to, by the names that APIs give them."""
_NAMES: Final = [(char, name.encode()) for name, char in sorted(html5.items()) if name.endswith(";") and char.isascii()]
"""The characters of ASCII that HTML has names for, such as `plus;` and `sol;`."""

_BACKSLASHES_LOOKED_AT: Final = 200
_ONLY_BASE64: Final = re.compile(rb"[A-Za-z0-9]+")
"""A part of base64 that both of its alphabets spell alike."""


def is_secret(text: str) -> bool:
    """Whether a key is long enough to be one."""
    return len(text) >= _SHORTEST_SECRET


class Redaction:
    r"""Removes secrets from texts and bodies, in any spelling; one that is too short to be a secret is left alone.

    >>> redaction = Redaction("sk-0123456789", "none")
    >>> redaction.text("not with sk-0123456789, please"), redaction.text("none of these")
    ('not with [key], please', 'none of these')
    >>> redaction.refusal(rb"not with \u0073k\u002d0123456789 or %73k-0123456789")
    b'not with [key] or [key]'
    """

    def __init__(self, *secrets: str) -> None:
        # The longest first, as one may be a part of another.
        keys = sorted({key.encode() for key in secrets if is_secret(key)}, key=len, reverse=True)
        self._coded = [text for key in keys for text in _in_base64(key)]
        in_hexadecimal = [text for key in keys for text in (key.hex().encode(), key.hex().upper().encode())]
        self._plain = keys + [_longest_part(text) for text in self._coded] + in_hexadecimal
        self._with_slash = [key for key in keys if b"/" in key]
        self._starts_of_lists = [
            comma.join(b"%d" % byte for byte in key[:4]) for key in keys for comma in (b",", b", ")
        ]
        self._lists = [re.compile(rb"\s*,\s*".join(b"%d" % byte for byte in key)) for key in keys]
        self._spellings = [re.compile(b"".join(map(_spellings, text))) for text in keys + self._coded]
        self._spellings += [re.compile(b"".join(map(_hexadecimal, key))) for key in keys]
        used = sorted({byte for key in keys for byte in key})
        codes, numbers = b"|".join(map(_hexadecimal, used)), b"|".join(b"%d" % byte for byte in used)
        self._in_json = re.compile(rb"\\(?:u00|x)(?:%s)" % codes)
        html = rb"&#(?:[xX]0*(?:%s)|0*(?:%s));|&(?:%s);" % (codes, numbers, b"|".join(map(_entities, used)))
        self._in_urls_or_html = re.compile(rb"%%(?:25)*(?:%s)|%s" % (codes, html))
        self._has_warned = False

    def text(self, text: str) -> str:
        """A message or a header's value, without the secrets."""
        raw = text.encode(errors="surrogatepass")
        return self._without(raw).decode(errors="surrogatepass") if self._may_hold(raw) else text

    def refusal(self, body: bytes) -> bytes:
        """The body of a refusal, without the secrets."""
        return self._without(body) if self._may_hold(body) else body

    def answer(self, body: bytes) -> bytes:
        """The body of an answer, without the secrets; logs a warning the first time it contains one."""
        clean = self._without(body) if self._may_hold(body) else body
        if self._plain and is_event_stream(body):
            clean = self._without_in_pieces(clean)
        if clean == body:
            return body
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "the server wrote the API key into an answer: [key] is kept in its place. Look at what stands between "
                "here and the model, and change the key"
            )
        return clean

    def _may_hold(self, body: bytes) -> bool:
        """Whether a body holds a secret as it is, or an escape of one of its characters, which few bodies do.

        Takes 60 us for 100 KB, where trying all spellings takes 5 ms.
        """
        if not self._plain:
            return False
        if any(text in body for text in self._plain) or self._escaped_in_json(body):
            return True
        if any(text in body for text in self._starts_of_lists):
            return True
        is_printed = any(mark in body for mark in (b",\n", b", \n", b",\r\n"))  # over several lines
        if is_printed and any(byte_list.search(body) for byte_list in self._lists):
            return True
        if self._with_slash and b"\\/" in body:  # as PHP writes each slash
            unescaped = body.replace(b"\\", b"")
            if any(key in unescaped for key in self._with_slash):
                return True
        return (b"%" in body or b"&" in body) and self._in_urls_or_html.search(body) is not None

    def _escaped_in_json(self, body: bytes) -> bool:
        r"""Whether a body holds an escape such as `\u002b` or `\x2b` of one of the characters of a secret.

        Looking for a single byte is thirty times as fast as for a pattern, so the first backslashes are looked at.
        """
        at = -1
        for _ in range(_BACKSLASHES_LOOKED_AT):
            at = body.find(b"\\", at + 1)
            if at < 0:
                return False
            if body.startswith((b"u00", b"x"), at + 1):
                break
        return self._in_json.search(body, at) is not None

    def _without_in_pieces(self, body: bytes) -> bytes:
        """A stream of events without the secrets that are spread over several events."""
        for name in _STREAMED:
            for spelling in self._spellings:
                body = _cut_out(spelling, body, [match.span(1) for match in name.finditer(body)])
        return body

    def _without(self, body: bytes) -> bytes:
        for spelling in self._spellings:
            body = spelling.sub(_PLACEHOLDER, body)
        for byte_list in self._lists:
            body = byte_list.sub(_PLACEHOLDER_AS_BYTES, body)
        return body


def _cut_out(secret: re.Pattern[bytes], body: bytes, pieces: Sequence[tuple[int, int]]) -> bytes:
    """A body without a secret that is spread over these pieces of it; the placeholder is where the secret begins.

    Args:
        secret: finds it.
        body: holds the pieces.
        pieces: where each begins and ends.
    """
    found = [match.span() for match in secret.finditer(b"".join(body[start:end] for start, end in pieces))]
    if not found:
        return body
    kept: list[bytes] = []
    copied = before = 0  # the end of what is copied, and the length of the pieces before this one
    for start, end in pieces:
        for first, last in found:
            cut_from, cut_to = max(start, start + first - before), min(end, start + last - before)
            if cut_from < cut_to:
                kept += [body[copied:cut_from], _PLACEHOLDER if first >= before else b""]
                copied = cut_to
        before += end - start
    return b"".join([*kept, body[copied:]])


def _in_base64(key: bytes) -> list[bytes]:
    """The base64 of a key wherever it stands in what is encoded, without the ends that its neighbours have a part in.

    A group of three bytes is four characters: so a key may begin at three places in a group, and be spelled in as many
    ways, each of them in two alphabets.
    """
    found = []
    for before in range(3):
        whole = len(key) - (len(key) + before) % 3  # up to the end of a group
        text = base64.b64encode(bytes(before) + key[:whole])[(0, 2, 3)[before] :]
        found += [text, text.replace(b"+", b"-").replace(b"/", b"_")]
    return list(dict.fromkeys(found))


def _longest_part(text: bytes) -> bytes:
    return max((found.group() for found in _ONLY_BASE64.finditer(text)), key=len)


def _hexadecimal(byte: int) -> bytes:
    """A pattern of the two hexadecimal digits of a byte, in either case."""
    return b"".join(
        b"[%c%c]" % (digit, digit ^ 0x20) if chr(digit).isalpha() else b"%c" % digit for digit in b"%02x" % byte
    )


def _spellings(byte: int) -> bytes:
    r"""A pattern of all ways to write a character: `+`, `\+`, `\u002b`, `\x2b`, `%2B`, `&#43;`, `&plus;`.

    What is quoted twice has two backslashes, or `%252B`.
    """
    code, plain = _hexadecimal(byte), re.escape(b"%c" % byte)
    backslashes = rb"\\*" if not chr(byte).isalnum() else b""
    escapes = rb"\\+(?:u00|x)%s|%%(?:25)*%s|&#(?:[xX]0*%s|0*%d);|&(?:%s);" % (code, code, code, byte, _entities(byte))
    return rb"(?:%s|%s%s)" % (escapes, backslashes, plain)  # the escapes first: `&` begins one of its own


def _entities(byte: int) -> bytes:
    """A pattern of the names that HTML has for a character; one that matches nothing where it has none."""
    return b"|".join(name.removesuffix(b";") for char, name in _NAMES if char == chr(byte)) or b"(?!)"
