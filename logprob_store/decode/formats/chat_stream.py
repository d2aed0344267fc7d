"""Streams of chat completions and legacy completions: their chunks merged into one body of the same API.

Texts and tool calls are joined from their pieces, and lists of logprobs in their order. Of every other key the last
value that is not empty is kept: `usage` comes in the last chunk, and Azure's first chunk has no choice and empty names.
`streams` finds the chunks in a recording. An `error` that a chunk reports stands in the body, whose reader refuses it.

The logprobs part of a stream is that of the merged body, which `chunk_logprobs` makes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.body import index_or_none, list_or_empty, object_or_empty, objects_in, reported_error
from logprob_store.decode.formats.chunk_logprobs import merge_logprobs
from logprob_store.decode.formats.pieces import Piece, broken_off, read_structs, text_under, value_of
from logprob_store.errors import DecodeError
from logprob_store.reported_errors import ends_in_failure, says_something
from logprob_store.sse import counts_tokens

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_OBJECTS: Final = {"chat.completion.chunk": "chat.completion"}
_MESSAGE_TEXTS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_CALL_TEXTS: Final = ("name", "arguments")
_CHUNK: Final = "chat.completion.chunk"
_WHOLE: Final = "chat.completion"
_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})


class _ChunkChoice(msgspec.Struct):
    """A choice without its logprobs, which are long and say nothing about the stream."""

    index: Any = 0
    finish_reason: Any = msgspec.UNSET
    delta: Any = None
    text: Any = msgspec.UNSET
    message: Any = None
    content_filter_offsets: Any = None


_CHOICE_KEYS: Final = frozenset({"delta", "text"})
_CHOICES: Final = msgspec.json.Decoder(list[_ChunkChoice])


def recognises(keys: Collection[str]) -> bool:
    """Whether pieces with these keys are chunks of chat completions or completions."""
    return "choices" in keys


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no chunk.

    A chunk of legacy completions differs from a whole answer only by its `finish_reason`, which is null, and by what
    comes behind it. Without an id it has one token at most.

    >>> describe({"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}).opens
    frozenset({0})
    """
    kind = text_under(held, "object")
    if kind == _WHOLE or "choices" not in held:
        return None
    choices = _choices_of(held)
    stream_id = text_under(held, "id")
    if all(choice.content_filter_offsets is not None and choice.delta is None for choice in choices):
        # Nothing, or Azure's verdict on what came before.
        usage = bool(value_of(held, "usage"))
        return Piece(stream_id, ends_all=usage, is_head=stream_id is None and "prompt_filter_results" in held)
    if any(choice.message is not None for choice in choices):
        return None
    is_chunk = kind == _CHUNK or all(choice.delta is not None for choice in choices)
    if not is_chunk and any(choice.text is msgspec.UNSET for choice in choices):
        return None
    full = [choice for choice in choices if _adds_something(choice)]
    ended = [choice for choice in choices if choice.finish_reason not in (None, "", msgspec.UNSET)]
    if not is_chunk and not ended and any(choice.finish_reason is msgspec.UNSET for choice in choices):
        return None
    with_role = [choice for choice in choices if isinstance(choice.delta, dict) and choice.delta.get("role")]
    opened = [choice for choice in with_role if choice not in full and choice not in ended]
    is_tail = not full and not ended and bool(value_of(held, "usage"))
    return Piece(
        stream_id,
        opens=frozenset() if is_tail else _indices(opened),
        adds=_indices(full),
        without_role=_indices(full) - _indices(with_role),
        ends=_indices(ended),
        ends_all=is_tail,
        may_be_whole=not is_chunk,
        needs_id=not is_chunk,
        needs_end=not is_chunk and not ended and stream_id is None and _has_one_token(held),
    )


def _has_one_token(held: Mapping[str, Any]) -> bool:
    """Whether the lists of logprobs in a chunk of legacy completions have one token at most."""
    listed = [object_or_empty(choice.get("logprobs")).get("tokens") for choice in objects_in(value_of(held, "choices"))]
    return all(len(list_or_empty(tokens)) <= 1 for tokens in listed)


def _choices_of(held: Mapping[str, Any]) -> list[_ChunkChoice]:
    return read_structs(held, "choices", _CHOICES, _ChunkChoice)


def _adds_something(choice: _ChunkChoice) -> bool:
    """Whether a chunk adds a text or a call to a choice."""
    if choice.text is not msgspec.UNSET:
        return choice.text not in _NOTHING
    delta = choice.delta if isinstance(choice.delta, dict) else {}
    return any(value not in _NOTHING for key, value in delta.items() if key != "role")


def _indices(choices: Iterable[_ChunkChoice]) -> frozenset[int]:
    return frozenset(index_or_none(choice.index) or 0 for choice in choices)


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the chunks brought, of all choices in the order of the chunks."""
    listed = [choice for piece in pieces for choice in _choices_of(piece)]
    deltas = [choice.delta for choice in listed if isinstance(choice.delta, dict)]
    texts = [choice.text for choice in listed]
    texts += [delta[key] for delta in deltas for key in _MESSAGE_TEXTS if key in delta]
    return "".join(text for text in texts if isinstance(text, str))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One body made of the chunks.

    Raises:
        DecodeError: a chunk cannot be placed.

    >>> chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}]}
    >>> merge([chunk, chunk])["choices"]
    [{'index': 0, 'message': {'content': 'aa'}, 'logprobs': {'content': [{'token': 'a'}, {'token': 'a'}]}}]
    """
    body: dict[str, Any] = {}
    for piece in pieces:
        _keep_last(body, {key: value for key, value in piece.items() if key not in ("choices", "logprobs")})
    choices = _choices_by_index(pieces)
    ended = {index for index, found in choices.items() if any(one.get("finish_reason") for one in found)}
    if counts_tokens({index: len(found) for index, found in choices.items()}, ended):
        choices = {0: [choice for listed in choices.values() for choice in listed]}
    body["object"] = _OBJECTS.get(str(body.get("object")), body.get("object"))
    return {**body, "choices": [_merge_choice(index, choices[index]) for index in sorted(choices)]}


def _choices_by_index(pieces: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """The choices of all chunks. One with an odd index belongs to the only other choice there is, or to choice 0."""
    found: list[tuple[int | None, Mapping[str, Any]]] = []
    for n, piece in enumerate(pieces):
        for m, choice in enumerate(_objects_of(piece.get("choices"))):
            path = f"chunk {n}: choices[{m}]"
            if isinstance(choice.get("message"), dict) and choice["message"].get("content") is not None:
                raise DecodeError(
                    f"{path}.message: a whole answer, not a chunk of one; put one answer in a file or line"
                )
            failed = says_something(choice.get("error"))
            if failed or ends_in_failure(end := choice.get("finish_reason")):
                error = str(reported_error(choice["error"] if failed else f"{path}.finish_reason: {end}"))
                raise broken_off(error, text_of(pieces), error_type="error_body")
            found.append((index_or_none(choice.get("index")), _with_logprobs(choice, piece)))
    known = {index for index, _ in found if index is not None}
    only = known.pop() if len(known) == 1 else 0
    choices: dict[int, list[Mapping[str, Any]]] = {}
    for index, one in found:
        choices.setdefault(only if index is None else index, []).append(one)
    return choices


def _with_logprobs(choice: Mapping[str, Any], piece: Mapping[str, Any]) -> Mapping[str, Any]:
    """A choice with its logprobs, which some gateways put into its delta, or beside the only choice of a chunk."""
    if choice.get("logprobs") is not None:
        return choice
    delta = object_or_empty(choice.get("delta"))
    beside = piece.get("logprobs") if len(_objects_of(piece.get("choices"))) == 1 else None
    held = next((one for one in (delta.get("logprobs"), beside) if isinstance(one, (dict, list))), None)
    if held is None:
        return choice
    return {**choice, "delta": {k: v for k, v in delta.items() if k != "logprobs"}, "logprobs": held}


def _objects_of(listed: Any) -> list[dict[str, Any]]:
    """The objects in the `choices` of a chunk, or the one object that is there in place of a list."""
    return [listed] if isinstance(listed, dict) and not _CHOICE_KEYS.isdisjoint(listed) else objects_in(listed)


def _keep_last(merged: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Put in the values that are not empty, and those of keys that have none yet. A text is replaced by texts alone."""
    for key, value in found.items():
        before = merged.get(key)
        if not before or (value and isinstance(value, str) >= isinstance(before, str)):
            merged[key] = value


def _merge_choice(index: int, pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {"index": index}
    pieces = _without_repeats(pieces)
    deltas = [piece["delta"] for piece in pieces if isinstance(piece.get("delta"), dict)]
    for piece in pieces:
        _keep_last(merged, {k: v for k, v in piece.items() if k not in ("index", "delta", "text", "logprobs")})
    if any("text" in piece for piece in pieces):
        merged["text"] = _join_texts([piece["text"] for piece in pieces if "text" in piece])
    if any("delta" in piece for piece in pieces):
        merged["message"] = _merge_message(deltas)
    if any("logprobs" in piece for piece in pieces):
        merged["logprobs"] = merge_logprobs([(_text_of_choice(piece), piece.get("logprobs")) for piece in pieces])
    return merged


def _text_of_choice(choice: Mapping[str, Any]) -> str:
    """The text of a chunk's choice that tokens of `content` spell."""
    text = choice.get("text", object_or_empty(choice.get("delta")).get("content"))
    return text if isinstance(text, str) else ""


def _without_repeats(pieces: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The chunks of a choice. Where each repeats all that came before it, only the last of those with logprobs."""
    full = [piece for piece in pieces if _lists_of(piece)]
    if len(full) < 2 or not all(_repeats(one, other) for one, other in pairwise(full)):  # noqa: PLR2004  a pair
        return pieces
    return [piece for piece in pieces if piece is full[-1] or not _lists_of(piece)]


def _repeats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a chunk has the whole text and all tokens of an earlier one, and more of both."""
    before, after = _lists_of(one), _lists_of(other)
    return (
        text_of([{"choices": [other]}]).startswith(text_of([{"choices": [one]}]) or " ")
        and before.keys() <= after.keys()
        and all(len(after[key]) > len(items) and after[key][: len(items)] == items for key, items in before.items())
    )


def _lists_of(piece: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The lists of a chunk's logprobs that are not empty."""
    held = piece.get("logprobs")
    items = held.items() if isinstance(held, dict) else ()
    return {key: value for key, value in items if isinstance(value, list) and value}


def _merge_message(deltas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for delta in deltas:
        _add_delta(message, {key: value for key, value in delta.items() if key not in _MESSAGE_TEXTS})
    for key in _MESSAGE_TEXTS:
        found = [delta[key] for delta in deltas if key in delta]
        if found:
            message[key] = _join_texts(found)
    return message


def _join_texts(pieces: Sequence[Any]) -> Any:
    """The pieces as one text, as a list of content parts if some are such lists; None if all are null."""
    given = [piece for piece in pieces if piece is not None]
    if all(isinstance(piece, str) for piece in given):
        return "".join(given) if given else None
    return [part for piece in given for part in (piece if isinstance(piece, list) else [piece])]


def _add_delta(merged: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Add a delta: names and arguments are appended, calls are found by their index, other values are replaced."""
    for key, value in found.items():
        before = merged.get(key)
        if key in _CALL_TEXTS and isinstance(value, str) and isinstance(before, str):
            merged[key] = before + value
        elif key == "tool_calls" and isinstance(value, list):
            merged[key] = _add_calls(before, value)
        elif isinstance(value, dict):
            merged[key] = dict(before) if isinstance(before, dict) else {}
            _add_delta(merged[key], value)
        elif value is not None or key not in merged:
            merged[key] = value


def _add_calls(before: Any, calls: Sequence[Any]) -> list[Any]:
    merged: list[Any] = list(before) if isinstance(before, list) else []
    for call in calls:
        if not isinstance(call, dict):
            merged.append(call)
            continue
        index = call.get("index")
        known = (one for one in merged if isinstance(one, dict) and one.get("index") == index is not None)
        found = next(known, None)
        if found is None:
            found = {}
            merged.append(found)
        _add_delta(found, call)
    return merged
