"""Ollama's own `/api/generate` and `/api/chat`, whole or as the pieces of a stream.

The logprobs part is the top-level `logprobs`: `[{token, logprob, bytes, top_logprobs: [{token, logprob, bytes}]}]`, the
list of the chat shape, read as such. Empty lists are left out (the first releases with logprobs have no `bytes`), and
so is the whole list if no logprobs were asked for. Tokens of the model's thinking stand in the list like any other, and
nothing says where they end: their section is `content` too.

`bytes` are those of the token's text. Where a token ends inside a character they are the bytes of U+FFFD; the true
bytes are lost before they are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import compact_json, count_or_none, text_or_none
from logprob_store.decode.formats.native_fields import iso_time_or_none, merge_pieces, objects_of_body
from logprob_store.decode.formats.pieces import Piece, broken_off, text_under, value_of
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.request import Answer

NAME: Final = "ollama"

_LOGPROBS: Final = "logprobs"
_LAYOUT: Final = {"format": NAME}


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is Ollama's own."""
    return "done" in keys and "choices" not in keys and ("response" in keys or "message" in keys)


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    (path, item), *more = objects_of_body(answer, raw=_LOGPROBS)
    if path or more:
        raise DecodeError("the body: expected an object, got a list")
    if item["done"] is False:
        raise broken_off("done: false, as in a stream that was cut off", text_of([item]))
    return Reply(
        response_id=None,
        model=text_or_none(item.get("model")),
        created=iso_time_or_none(item.get("created_at")),
        system_fingerprint=None,
        prompt_tokens=count_or_none(item.get("prompt_eval_count")),
        completion_tokens=count_or_none(item.get("eval_count")),
        choices=[_choice(item)],
    )


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no piece and cannot be the last of one."""
    if not recognises(held):
        return None
    done = value_of(held, "done")
    if type(done) is not bool:
        done = text_under(held, "done_reason") is not None
    one = frozenset({0})
    return Piece(adds=one, ends=one if done else frozenset(), may_be_whole=done)


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the pieces brought."""
    messages = [piece["message"] if isinstance(piece.get("message"), dict) else {} for piece in pieces]
    texts = [message.get("content", piece.get("response")) for piece, message in zip(pieces, messages, strict=True)]
    return "".join(text for text in texts if isinstance(text, str))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One body made of the pieces of a stream."""
    body = merge_pieces(pieces, texts=("response", "thinking"), lists=(_LOGPROBS, "tool_calls"))
    messages = [piece["message"] for piece in pieces if isinstance(piece.get("message"), dict)]
    if messages:
        body["message"] = merge_pieces(messages, texts=("content", "thinking"), lists=("tool_calls",))
    return body


def _choice(item: Mapping[str, Any]) -> Choice:
    held = item.get("message")
    message: Mapping[str, Any] = held if isinstance(held, dict) else {}
    calls = message.get("tool_calls", item.get("tool_calls"))
    choice: dict[str, Any] = {
        "index": 0,
        "path": _LOGPROBS,
        "finish_reason": text_or_none(item.get("done_reason")),
        "text": text_or_none(message.get("content", item.get("response"))),
        "tool_calls": compact_json(calls, "message.tool_calls"),
    }
    logprobs = item.get(_LOGPROBS)
    if logprobs is None or logprobs == b"null":
        return Choice(**choice, logprobs=None if _LOGPROBS in item else msgspec.UNSET)
    if not (logprobs.startswith(b"[") if isinstance(logprobs, bytes) else isinstance(logprobs, list)):
        return Choice(**choice, logprobs=logprobs)
    wrapped = b'{"content":' + logprobs + b"}" if isinstance(logprobs, bytes) else {"content": logprobs}
    return Choice(**choice, logprobs=wrapped, layout=_LAYOUT)


def restore(_: Mapping[str, Any], value: Any) -> Any:
    """The bare list again."""
    return value["content"]
