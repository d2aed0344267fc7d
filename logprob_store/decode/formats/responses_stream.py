"""Streams of the Responses API: the last event holds the whole response.

Where the content parts of that response lack their logprobs, they are taken from the events that announced the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import reported_error
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_LAST: Final = ("response.completed", "response.incomplete", "response.failed")
_DELTA: Final = "response.output_text.delta"
_DONE: Final = "response.output_text.done"


def recognises(keys: Collection[str]) -> bool:
    """Whether pieces with these keys are events of a response."""
    return "response" in keys and "type" in keys


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The response of the last event.

    Raises:
        DecodeError: an event reports an error, or the stream was cut before its end.
    """
    response: Any = None
    for piece in pieces:
        if piece.get("type") == "error":
            raise reported_error(piece.get("error") or piece.get("message"))
        if piece.get("type") in _LAST:
            response = piece.get("response")
    if not isinstance(response, dict):
        raise DecodeError("the stream was cut: no event response.completed, response.incomplete or response.failed")
    output = response.get("output")
    for i, item in enumerate(output if isinstance(output, list) else ()):
        content = item.get("content") if isinstance(item, dict) else None
        for j, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "output_text" and not part.get("logprobs"):
                listed = _streamed(pieces, i, j)
                if listed:
                    part["logprobs"] = listed
    return response


def _streamed(pieces: Sequence[Mapping[str, Any]], item: int, part: int) -> list[Any]:
    """The logprobs of a content part from its events: of the one that ends it, or of all its deltas."""
    deltas: list[Any] = []
    for piece in pieces:
        if (piece.get("output_index"), piece.get("content_index")) != (item, part):
            continue
        listed = piece.get("logprobs")
        if not isinstance(listed, list):
            continue
        if piece.get("type") == _DONE and listed:
            return listed
        if piece.get("type") == _DELTA:
            deltas.extend(listed)
    return deltas
