"""Alibaba DashScope's own text generation: chat completions inside `output`, whole or as the pieces of a stream.

`{"request_id": ..., "output": {"choices": [{finish_reason, message, logprobs}]}, "usage": {...}}`. The logprobs part is
that of the choice inside. While a stream goes on, `finish_reason` is the text "null". A piece has all that came before,
or with `incremental_output` only what is new.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats import chat_stream, choices
from logprob_store.decode.formats.body import loads_object, object_or_empty, objects_in
from logprob_store.decode.formats.pieces import Piece, text_under, value_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.decode.formats.base import Reply
    from logprob_store.request import Answer

NAME: Final = "dashscope"

_NOT_FINISHED: Final = (None, "", "null")
_USAGE: Final = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is one of DashScope's."""
    return "output" in keys and "request_id" in keys and "object" not in keys


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    item = loads_object(answer.body)
    output = object_or_empty(item["output"])
    listed = output.get("choices")
    if listed is None:  # result_format: text
        listed = [{"message": {"content": output.get("text")}, "finish_reason": output.get("finish_reason")}]
    usage = item.get("usage")
    counts = {_USAGE.get(key, key): value for key, value in usage.items()} if isinstance(usage, dict) else {}
    body = {"id": item.get("request_id"), "model": item.get("model"), "choices": listed, "usage": counts}
    return choices.read(replace(answer, body=json.dumps(body).encode()))


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no body of DashScope's."""
    output = value_of(held, "output") if recognises(held) else None
    if not isinstance(output, dict):
        return None
    listed = output.get("choices")
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else [output]
    ended = {n for n, one in enumerate(found) if one.get("finish_reason") not in _NOT_FINISHED}
    return Piece(
        text_under(held, "request_id"), adds=frozenset(range(len(found))), ends=frozenset(ended), may_be_whole=True
    )


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the pieces brought."""
    merged = objects_in(merge(pieces)["output"].get("choices")) or [{}]
    text = object_or_empty(merged[0].get("message")).get("content")
    return text if isinstance(text, str) else ""


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One body made of the pieces of a stream."""
    chunks = [{"choices": [_as_chunk(one, n) for n, one in enumerate(_choices(piece))]} for piece in pieces]
    return {**pieces[-1], "output": {"choices": chat_stream.merge(chunks)["choices"]}}


def _choices(piece: Mapping[str, Any]) -> list[dict[str, Any]]:
    output = object_or_empty(piece.get("output"))
    if output.get("choices") is None:
        return [{"message": {"content": output.get("text")}, "finish_reason": output.get("finish_reason")}]
    return objects_in(output["choices"])


def _as_chunk(choice: Mapping[str, Any], index: int) -> dict[str, Any]:
    held = {key: value for key, value in choice.items() if key != "message"}
    if held.get("finish_reason") in _NOT_FINISHED:
        held["finish_reason"] = None
    return {**held, "index": index, "delta": choice.get("message") or {}}
