"""Transcriptions of OpenAI's audio API (`include: ["logprobs"]`), whole: `{text, logprobs: [{token, logprob, bytes}]}`.

The logprobs part is the top-level `logprobs`, the list of the chat shape, read as such. Streams are in
`transcription_stream`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import count_or_none, text_or_none
from logprob_store.decode.formats.native_fields import objects_of_body
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from logprob_store.request import Answer

NAME: Final = "transcription"

_LOGPROBS: Final = "logprobs"
_LAYOUT: Final = {"format": NAME}
_OTHERS: Final = frozenset(
    {"choices", "meta_info", "segments", "generation_id", "type", "index", "finish_reason", "token_ids"}
)


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is a transcription."""
    return "text" in keys and (_LOGPROBS in keys or "usage" in keys) and _OTHERS.isdisjoint(keys)


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    (path, item), *more = objects_of_body(answer, raw=_LOGPROBS)
    if path or more:
        raise DecodeError("the body: expected an object, got a list")
    usage = item.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        response_id=None,
        model=text_or_none(item.get("model")),
        created=None,
        system_fingerprint=None,
        prompt_tokens=count_or_none(usage.get("input_tokens")),
        completion_tokens=count_or_none(usage.get("output_tokens")),
        choices=[_choice(item)],
    )


def _choice(item: Mapping[str, Any]) -> Choice:
    held = item.get(_LOGPROBS, msgspec.UNSET)
    choice: dict[str, Any] = {"index": 0, "path": _LOGPROBS, "text": text_or_none(item.get("text"))}
    if held in (None, b"null", msgspec.UNSET):
        return Choice(**choice, logprobs=msgspec.UNSET if held is msgspec.UNSET else None)
    if not (held.startswith(b"[") if isinstance(held, bytes) else isinstance(held, list)):
        return Choice(**choice, logprobs=held)
    wrapped = b'{"content":' + held + b"}" if isinstance(held, bytes) else {"content": held}
    return Choice(**choice, logprobs=wrapped, layout=_LAYOUT)


def restore(_: Mapping[str, Any], value: Any) -> Any:
    """The bare list again."""
    return value["content"]
