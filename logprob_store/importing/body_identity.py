"""What identifies the body of an answer, however a program writes it (docs/decisions/0007-import-identity.md).

White space between values, the order of keys, members that are null, escapes of letters and `.0` behind a whole number
make no difference. Earlier versions told bodies apart by more than that: `older` has what they kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from functools import cached_property
from typing import Any, Final

import msgspec

DIGEST_BYTES: Final = 16

_SPELLED: Final = re.compile(rb":null[,}]|\\[u/]")
"""What `older` has in one spelling, in compact JSON; inside of strings a quote has a backslash before it."""
_WHOLE_NUMBER: Final = re.compile(rb"\.0+\s*[,}\]]")
_HOLDERS: Final = frozenset({dict, list})
_DATA: Final = b"data:"
_NO_JSON: Final = (msgspec.DecodeError, ValueError, RecursionError)


class BodyIdentity:
    r"""The digests of a body; equal answers that were written in two ways have one `canonical`.

    >>> one = BodyIdentity(b'{"id": "a", "text": "\\u00e9", "logprob": -0.0, "error": null}')
    >>> one.canonical == BodyIdentity('{"logprob":0,"text":"é","id":"a"}'.encode()).canonical
    True
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def canonical(self) -> bytes:
        """What tells answers apart."""
        return _digest(canonical_body(self._content))

    @cached_property
    def older(self) -> tuple[bytes, bytes]:
        """What did so in version 0.1.0, for which each spelling differed, and later while the order of keys did."""
        compact = self._compact
        return _digest(compact), _digest(_in_one_spelling(compact) if _SPELLED.search(compact) else compact)

    @property
    def sha256(self) -> str:
        """The sha256 of the body, white space between values aside."""
        return hashlib.sha256(self._compact).hexdigest()

    @cached_property
    def _compact(self) -> bytes:
        # An event stream, and JSON with NaN or Infinity, is taken as it stands.
        with contextlib.suppress(*_NO_JSON):
            return msgspec.json.format(self._content, indent=-1)
        return self._content


def canonical_body(content: bytes) -> bytes:
    r"""A body in one spelling: JSON, or a stream of events whose data is JSON; as it stands if it is neither.

    >>> canonical_body(b'{"b": 1.0, "a": null, "c": [null, {"d": null}, NaN]}').decode()
    '{"b": 1, "c": [null, {}, NaN]}'
    >>> canonical_body(b'data: {"b": 1, "a": 2}\r\n\r\ndata: [DONE]\n').decode()
    'data:{"a":2,"b":1}\n\ndata: [DONE]\n'
    """
    if content.startswith((b"{", b"[")):
        return _canonical_json(content)
    if _DATA in content:
        return b"\n".join(map(_canonical_line, content.split(b"\n")))
    return content


def _canonical_line(line: bytes) -> bytes:
    data = line.removeprefix(_DATA).strip()
    is_json = line.startswith(_DATA) and data.startswith(b"{")
    return _DATA + _canonical_json(data) if is_json else line.rstrip(b"\r")


def _canonical_json(content: bytes) -> bytes:
    has_nulls = b"null" in content
    with contextlib.suppress(*_NO_JSON):
        value = _WHOLE_AS_INT.decode(content) if _WHOLE_NUMBER.search(content) else msgspec.json.decode(content)
        return msgspec.json.encode(_without_nulls(value) if has_nulls else value, order="sorted")
    with contextlib.suppress(*_NO_JSON):  # NaN, or half of a pair of surrogates
        return json.dumps(_without_nulls(json.loads(content, parse_float=_number)), sort_keys=True).encode()
    return content


def _number(written: str) -> int | float:
    number = float(written)
    return int(number) if number.is_integer() else number


_WHOLE_AS_INT: Final = msgspec.json.Decoder(float_hook=_number)
"""Slower: it calls Python for each number with a point."""


def _in_one_spelling(content: bytes) -> bytes:
    r"""JSON without members that are null, and with letters in place of their escapes.

    >>> _in_one_spelling(b'{"a":null,"b":null,"c":[null,{"d":null}]}')
    b'{"c":[null,{}]}'
    >>> _in_one_spelling(b'"\\u00e9\\ud83d\\ude42 \\\\u0041 \\u0022 \\/"').decode()
    '"é🙂 \\\\u0041 \\" /"'
    """
    with contextlib.suppress(*_NO_JSON):  # half of a pair of surrogates, very deep lists
        return msgspec.json.encode(_without_nulls(msgspec.json.decode(content)))
    return content


def _without_nulls(value: Any) -> Any:
    if type(value) is dict:
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if type(value) is list and any(type(item) in _HOLDERS for item in value):
        return [_without_nulls(item) for item in value]
    return value


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]
