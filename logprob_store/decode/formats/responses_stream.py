"""Streams of the Responses API: the last event holds the whole response.

Where the content parts of that response lack their logprobs, they are taken from the events that announced the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import list_or_empty, object_or_empty, reported_error
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
    items = (text_under(held, "item_id"), text_under(object_or_empty(item), "id"))
    one = frozenset({0})
    return Piece(
        text_under(object_or_empty(response), "id"),
        opens=one if kind == _FIRST else frozenset(),
        adds=frozenset() if kind == _FIRST or kind in _LAST else one,
        ends=one if kind in _LAST or kind == _ERROR else frozenset(),
        number=number if type(number) is int else None,
        item_ids=frozenset(filter(None, items)),
    )


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the events brought."""
    texts = [piece.get("delta") for piece in pieces if piece.get("type") == _DELTA]
    return "".join(text for text in texts if isinstance(text, str))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The response of the last event; made of the events before where that one has none.

    Raises:
        DecodeError: an event reports an error, or the stream was cut before its end.
    """
    last: Mapping[str, Any] | None = None
    for piece in pieces:
        if piece.get("type") == _ERROR:
            error = str(reported_error(piece.get("error") or piece.get("message")))
            raise broken_off(error, text_of(pieces), error_type="error_body")
        if piece.get("type") == _FAILED:
            said = object_or_empty(piece.get("response")).get("error") or "status: failed"
            raise broken_off(str(reported_error(said)), text_of(pieces), error_type="error_body")
        if piece.get("type") in _LAST:
            last = piece
    if last is None:
        cut = "the stream was cut: no event response.completed, response.incomplete or response.failed"
        raise broken_off(cut, text_of(pieces))
    response = {"status": last["type"].partition(".")[2], **object_or_empty(last.get("response"))}
    if not isinstance(response.get("output"), list):
        response["output"] = _items_of(pieces)
    _add_logprobs(response["output"], pieces)
    return response


def _add_logprobs(output: Sequence[Any], pieces: Sequence[Mapping[str, Any]]) -> None:
    """Give the content parts that lack their logprobs those of the events."""
    for i, item in enumerate(output):
        for j, part in enumerate(list_or_empty(object_or_empty(item).get("content"))):
            if not isinstance(part, dict) or part.get("type") != "output_text":
                continue
            if not list_or_empty(part.get("logprobs")):
                listed = _streamed(pieces, i, j, item.get("id"), part.get("text"))
                if listed:
                    part["logprobs"] = listed


def _items_of(pieces: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The output as the events before the last one bring it, for a last event without a usable response."""
    items: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        place = piece.get("output_index")
        if type(place) is not int:
            continue
        if isinstance(piece.get("item"), dict):
            items[place] = piece["item"]
        elif piece.get("type") == _DONE:
            item = items.get(place, {"type": "message"})
            parts = list_or_empty(item.get("content"))
            if len(parts) == piece.get("content_index", 0):
                items[place] = {**item, "content": [*parts, {"type": "output_text", "text": piece.get("text")}]}
    return [items[place] for place in sorted(items)]


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
    found = [piece["logprobs"] for piece in deltas if piece.get("logprobs") is not None]
    return [token for held in found for token in (held if isinstance(held, list) else [held])]
