"""Streams of the Responses API: the last event holds the whole response.

Where the content parts of that response lack their logprobs, they are taken from the events that announced the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import reported_error
from logprob_store.decode.formats.pieces import Piece, broken_off, text_under, value_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

BODY: Final = "responses"
_LAST: Final = ("response.completed", "response.incomplete", "response.failed")
_DELTA: Final = "response.output_text.delta"
_DONE: Final = "response.output_text.done"
_FIRST: Final = "response.created"
_FAILED: Final = "response.failed"
_ERROR: Final = "error"


def recognises(keys: Collection[str]) -> bool:
    """Whether pieces with these keys are events of a response."""
    return "response" in keys and "type" in keys


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no event of the Responses API."""
    kind = text_under(held, "type") or ""
    if not (kind.startswith("response.") or (kind == _ERROR and "sequence_number" in held)):
        return None
    number = value_of(held, "sequence_number")
    response = value_of(held, "response") if kind.count(".") == 1 else None
    item = value_of(held, "item")
    items = {text_under(held, "item_id"), item.get("id") if isinstance(item, dict) else None}
    one = frozenset({0})
    return Piece(
        response.get("id") or None if isinstance(response, dict) else None,
        opens=one if kind == _FIRST else frozenset(),
        adds=frozenset() if kind == _FIRST or kind in _LAST else one,
        ends=one if kind in _LAST or kind == _ERROR else frozenset(),
        number=number if type(number) is int else None,
        item_ids=frozenset(text for text in items if isinstance(text, str)),
    )


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the events brought."""
    texts = [piece.get("delta") for piece in pieces if piece.get("type") == _DELTA]
    return "".join(text for text in texts if isinstance(text, str))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The response of the last event.

    Raises:
        DecodeError: an event reports an error, or the stream was cut before its end.
    """
    response: Any = None
    for piece in pieces:
        if piece.get("type") == _ERROR:
            error = str(reported_error(piece.get("error") or piece.get("message")))
            raise broken_off(error, text_of(pieces), error_type="error_body")
        if piece.get("type") in _LAST:
            response = piece.get("response")
        if piece.get("type") == _FAILED and isinstance(response, dict):
            error = str(reported_error(response.get("error") or "status: failed"))
            raise broken_off(error, text_of(pieces), error_type="error_body")
    if not isinstance(response, dict):
        cut = "the stream was cut: no event response.completed, response.incomplete or response.failed"
        raise broken_off(cut, text_of(pieces))
    output = response.get("output")
    for i, item in enumerate(output if isinstance(output, list) else ()):
        content = item.get("content") if isinstance(item, dict) else None
        for j, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "output_text" and not part.get("logprobs"):
                listed = _streamed(pieces, i, j, item.get("id"), part.get("text"))
                if listed:
                    part["logprobs"] = listed
    return response


def _streamed(pieces: Sequence[Mapping[str, Any]], item: int, part: int, item_id: Any, text: Any) -> list[Any]:
    """The logprobs of a content part from its events: of the one that ends it, or of all its deltas.

    Where streams were mixed, events of another response may be among the pieces. Those that name another item are left
    out; if none names this item, their text has to be that of the part.
    """
    own = [piece for piece in pieces if (piece.get("output_index"), piece.get("content_index")) == (item, part)]
    named = [piece for piece in own if piece.get("item_id") == item_id is not None]
    own = named or own
    deltas = [piece for piece in own if piece.get("type") == _DELTA]
    done = [piece for piece in own if piece.get("type") == _DONE]
    said = done[-1].get("text") if done else "".join(str(piece.get("delta")) for piece in deltas)
    if not named and said != text:
        return []
    lists = [piece["logprobs"] for piece in done if isinstance(piece.get("logprobs"), list) and piece["logprobs"]]
    if lists:
        return list(lists[0])
    return [token for piece in deltas if isinstance(piece.get("logprobs"), list) for token in piece["logprobs"]]
