"""Streams of Cohere's v2 chat: events from `message-start` over `content-delta` to `message-end`.

A `content-delta` has the logprobs of its text. The events become a body that `cohere` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.pieces import Piece, broken_off, text_under

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

BODY: Final = "cohere"

_START: Final = "message-start"
_DELTA: Final = "content-delta"
_END: Final = "message-end"
_KINDS: Final = ("message-", "content-", "tool-call-", "tool-plan-", "citation-")


def recognises(keys: Collection[str]) -> bool:
    """Whether pieces with these keys are events of Cohere's chat."""
    return {"type", "index", "delta"} <= set(keys) and {"response", "item_id", "choices", "message"}.isdisjoint(keys)


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no event of Cohere's chat."""
    kind = text_under(held, "type") or ""
    if not kind.startswith(_KINDS):
        return None
    one = frozenset({0})
    return Piece(
        opens=one if kind == _START else frozenset(),
        adds=frozenset() if kind in (_START, _END) else one,
        ends=one if kind == _END else frozenset(),
    )


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the events brought."""
    contents = [_inside(piece, "delta", "message", "content") for piece in pieces if piece.get("type") == _DELTA]
    return "".join(content["text"] for content in contents if isinstance(content.get("text"), str))


def _inside(held: Any, *keys: str) -> dict[str, Any]:
    """The object under a path of keys; an empty one where there is none."""
    for key in keys:
        held = held.get(key) if isinstance(held, dict) else None
    return held if isinstance(held, dict) else {}


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body that the same answer has without a stream.

    Raises:
        DecodeError: the stream was cut before its end.
    """
    last = next((piece for piece in pieces if piece.get("type") == _END), None)
    if last is None:
        raise broken_off("the stream was cut: no event message-end", text_of(pieces))
    delta = _inside(last, "delta")
    body: dict[str, Any] = {
        "id": next((piece["id"] for piece in pieces if piece.get("id")), None),
        "message": {"role": "assistant", "content": [{"type": "text", "text": text_of(pieces)}]},
        "finish_reason": delta.get("finish_reason"),
        "usage": delta.get("usage"),
    }
    found = [piece["logprobs"] for piece in pieces if piece.get("logprobs") is not None]
    return {**body, "logprobs": found} if found else body
