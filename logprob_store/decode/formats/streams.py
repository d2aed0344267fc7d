r"""Recorded streams split into their pieces: server-sent events, a JSON list of chunks, or one chunk a line.

The formats in `registry.STREAMS` make one body of the pieces.

>>> split(b'data: {"a": 1}\n\ndata: [DONE]\n\n')
[{'a': 1}]
>>> split(b'[{"a": 1}, {"a": 2}]') == split(b'{"a": 1}\n{"a": 2}\n')
True
>>> split(b'{"a": 1}') is None  # a body like any other
True
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import expect_object, loads
from logprob_store.decode.formats.choices import CHUNK
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIELD: Final = re.compile(rb"(?:data|event|id|retry)?:")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_DONE: Final = b"[DONE]"


def split(content: bytes) -> list[dict[str, Any]] | None:
    """The pieces of a stream in their order; None if the content is no stream.

    Raises:
        DecodeError: a piece is damaged or no object.
    """
    stripped = content.strip()
    if _FIELD.match(stripped):
        return _objects(_parsed(_events(stripped), "event"), "event")
    if stripped.startswith(b"["):
        listed = loads(stripped)
        return _objects(listed, "item") if listed and isinstance(listed[0], dict) else None
    if stripped.startswith(b"{"):
        return _lines(stripped)
    return None


def _events(content: bytes) -> list[bytes]:
    """The data of each server-sent event, its lines joined; other fields are ignored."""
    events: list[bytes] = []
    data: list[bytes] = []
    for line in [*_LINE_END.split(content), b""]:
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
    return events


def _lines(content: bytes) -> list[dict[str, Any]] | None:
    """One chunk a line; None if the first line is not JSON: a body printed over several lines, or cut short."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    try:
        first = loads(lines[0])
    except DecodeError:
        return None
    if len(lines) == 1 and not (isinstance(first, dict) and first.get("object") == CHUNK):
        return None
    return _objects(_parsed(lines, "line"), "line")


def _parsed(texts: Sequence[bytes], what: str) -> list[Any]:
    values: list[Any] = []
    for n, text in enumerate(texts):
        if text.strip() == _DONE:
            continue
        try:
            values.append(loads(text))
        except DecodeError as error:
            raise DecodeError(f"{what} {n} of the stream: {error}") from None
    return values


def _objects(pieces: Sequence[Any], what: str) -> list[dict[str, Any]]:
    return [expect_object(piece, f"{what} {n} of the stream") for n, piece in enumerate(pieces)]
