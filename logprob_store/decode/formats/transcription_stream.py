"""Streams of transcriptions: `transcript.text.delta` events, and a `transcript.text.done` with the whole text.

The logprobs are those of the last event, or those of all deltas where it has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.pieces import Piece, broken_off, text_under

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

BODY: Final = "transcription"

_PREFIX: Final = "transcript."
_DELTA: Final = "transcript.text.delta"
_DONE: Final = "transcript.text.done"
_EVENT_KEYS: Final = ("type", "delta", "segment_id", "id", "start", "end", "speaker")


def recognises(keys: Collection[str]) -> bool:
    """Whether pieces with these keys are events of a transcription."""
    return "type" in keys and ("delta" in keys or "text" in keys) and {"response", "index", "item_id"}.isdisjoint(keys)


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no event of a transcription."""
    kind = text_under(held, "type") or ""
    if not kind.startswith(_PREFIX):
        return None
    one = frozenset({0})
    return Piece(adds=one, ends=one if kind == _DONE else frozenset())


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the events brought."""
    texts = [piece.get("delta") for piece in pieces if piece.get("type") == _DELTA]
    return "".join(text for text in texts if isinstance(text, str))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body that the same transcription has without a stream.

    Raises:
        DecodeError: the stream was cut before its end.
    """
    last = next((piece for piece in pieces if piece.get("type") == _DONE), None)
    if last is None:
        raise broken_off("the stream was cut: no event transcript.text.done", text_of(pieces))
    body = {key: value for key, value in last.items() if key not in _EVENT_KEYS}
    lists = [piece["logprobs"] for piece in pieces if piece.get("type") == _DELTA and piece.get("logprobs") is not None]
    if not (isinstance(body.get("logprobs"), list) and body["logprobs"]) and lists:
        body["logprobs"] = [item for held in lists for item in (held if isinstance(held, list) else [held])]
    return body
