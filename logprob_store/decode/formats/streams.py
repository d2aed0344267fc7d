r"""Recorded streams split into their pieces: server-sent events, a JSON list of chunks, or one chunk a line.

The formats in `registry.STREAMS` make one body of the pieces.

>>> split(b'data: {"a": 1}\n\ndata: [DONE]\n\n')
Recording(pieces=[{'a': 1}], is_done=True, problem=None)
>>> split(b'[{"a": 1}, {"a": 2}]') == split(b'{"a": 1}\n{"a": 2}\n')
True
>>> split(b'{"a": 1}') is None  # a body like any other
True
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from logprob_store.decode.formats.body import list_or_empty, loads, objects_in
from logprob_store.decode.formats.choices import CHUNK
from logprob_store.errors import DecodeError
from logprob_store.mended_json import read_int
from logprob_store.sse import DONE, event_data, is_event_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

_DECODER: Final = json.JSONDecoder(parse_int=read_int)


class Recording(NamedTuple):
    """A recorded stream.

    Args:
        pieces: its pieces in their order, up to the first that cannot be read. What is JSON and no object is left out:
            some proxies send `null` to keep a connection open.
        is_done: whether `[DONE]` ends it.
        problem: what is wrong with the piece behind the last.
    """

    pieces: list[dict[str, Any]]
    is_done: bool = False
    problem: str | None = None


def split(content: bytes) -> Recording | None:
    """The pieces of a stream; None if the content is no stream.

    Raises:
        DecodeError: the content begins like a JSON list and is none.
    """
    stripped = content.strip()
    if is_event_stream(stripped):
        return _recording(event_data(stripped), "event")
    if stripped.startswith(b"["):
        listed = list_or_empty(loads(stripped))
        return _recording(listed, "item") if objects_in(listed) else None
    if stripped.startswith(b"{"):
        return _lines(stripped)
    return None


def _recording(found: Sequence[Any], what: str) -> Recording:
    """The pieces from their texts (bytes) or values."""
    pieces: list[dict[str, Any]] = []
    is_done = False
    for n, one in enumerate(found):
        if isinstance(one, bytes) and one.strip() == DONE:
            is_done = True
            continue
        try:
            values = _values(one) if isinstance(one, bytes) else [one]
        except DecodeError as error:
            return Recording(pieces, is_done, f"{what} {n} of the stream: {error}")
        for value in values:  # a value that is a list holds pieces, too
            pieces += objects_in(value if isinstance(value, list) else [value])
    return Recording(pieces, is_done)


def _values(content: bytes) -> list[Any]:
    """The value of a piece; several where proxies have glued some together."""
    try:
        return [loads(content)]
    except DecodeError:
        values = _glued_values(content)
        if not values:
            raise
        return values


def _glued_values(content: bytes) -> list[Any]:
    """JSON values that stand one behind the other; none if something else is among them."""
    values: list[Any] = []
    try:
        text = content.decode().strip()
        position = 0
        while position < len(text):
            value, position = _DECODER.raw_decode(text, position)
            values.append(value)
            while position < len(text) and text[position].isspace():
                position += 1
    except (ValueError, RecursionError):
        return []
    return values


def _lines(content: bytes) -> Recording | None:
    """One chunk a line; None if the first line is not JSON: a body printed over several lines, or cut short."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    try:
        first = loads(lines[0])
    except DecodeError:
        return None
    if len(lines) == 1 and not (isinstance(first, dict) and first.get("object") == CHUNK):
        return None
    return _recording([line.strip().removeprefix(b"data:") for line in lines], "line")
