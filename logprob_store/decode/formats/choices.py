"""Bodies with `choices`: chat completions and legacy completions, by far the most common.

Each choice's `logprobs` stays raw bytes, since skipping it is ten times as fast as parsing it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    check_choice_index,
    compact_json,
    count_or_none,
    expect_object,
    is_utf8,
    loads_object,
    reported_error,
    text_or_none,
    time_or_none,
    without_bom,
)
from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from logprob_store.request import Answer

NAME: Final = "choices"
CHUNK: Final = "chat.completion.chunk"
"""The `object` of a chunk, a piece of a stream."""


class _Message(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    index: Any = None
    message: _Message | None = None
    text: Any = None
    finish_reason: Any = None
    logprobs: Any = msgspec.UNSET
    prompt_logprobs: Any = None


class _RawChoice(_Choice):
    logprobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt_logprobs: msgspec.Raw | None = None


class _Body(msgspec.Struct):
    id: Any = None
    object: Any = None
    model: Any = None
    created: Any = None
    system_fingerprint: Any = None
    usage: Any = None
    error: Any = None
    message: Any = None
    choices: Any = None
    prompt_logprobs: Any = None


class _RawBody(_Body):
    choices: list[_RawChoice] | None = None
    prompt_logprobs: msgspec.Raw | None = None


_RAW_CHUNK: Final = msgspec.Raw(b'"%b"' % CHUNK.encode())
_DECODER: Final = msgspec.json.Decoder(_RawBody)


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is one of chat completions or completions."""
    return "choices" in keys


def read(answer: Answer) -> Reply:
    """Read a body of chat completions or completions.

    Raises:
        DecodeError: it is not JSON, reports an error, or has no choices with different indices.
    """
    content = without_bom(answer.body)
    body = _parse(content) or _parse_leniently(content)
    return _reply(body)


def try_read(answer: Answer) -> Reply | None:
    """Read a body if it is certainly of this format and needs no lenient parser; otherwise None.

    Raises:
        DecodeError: two choices have one index, or an index is not usable.
    """
    if b'"choices"' not in answer.body:  # quick to find where it is; saves other formats a parse of the body
        return None
    body = _parse(without_bom(answer.body))
    if body is None or not body.choices or body.object == CHUNK:
        return None
    return _reply(body)


def read_with_placeholders(content: bytes, placeholders: Collection[bytes]) -> Reply | None:
    """Read a body whose logprobs were replaced by placeholders; None unless exactly these replace those of choices.

    Raises:
        DecodeError: two choices have one index, or an index is not usable.
    """
    body = _parse(content)
    if body is None or not body.choices or body.object == CHUNK:
        return None
    found = [bytes(choice.logprobs) for choice in body.choices if choice.logprobs is not msgspec.UNSET]
    if sorted(found) != sorted(placeholders):
        return None
    return _reply(body)


def is_chunk(keys: Mapping[str, msgspec.Raw]) -> bool:
    """Whether an object, its values still raw, is a chunk."""
    return keys.get("object") == _RAW_CHUNK


def _reply(body: _Body) -> Reply:
    if not body.choices:
        raise _no_choices(body)
    indices = _indices(body.choices)
    usage = body.usage if isinstance(body.usage, dict) else {}
    choices = [_choice(c, i, f"choices[{n}]") for n, (c, i) in enumerate(zip(body.choices, indices, strict=True))]
    choices.sort(key=lambda choice: choice.index)
    if body.prompt_logprobs is not None and choices[0].prompt_logprobs is None:  # chat has one prompt for all choices
        held = _read_or_raw(body.prompt_logprobs)
        choices[0] = replace(choices[0], prompt_logprobs=held, prompt_path="prompt_logprobs")
    return Reply(
        text_or_none(body.id),
        text_or_none(body.model),
        time_or_none(body.created),
        text_or_none(body.system_fingerprint),
        count_or_none(usage.get("prompt_tokens")),
        count_or_none(usage.get("completion_tokens")),
        choices,
    )


def _parse(content: bytes) -> _Body | None:
    """The body; None if msgspec refuses it."""
    try:
        return _DECODER.decode(content) if is_utf8(content) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _parse_leniently(content: bytes) -> _Body:
    """A body with what msgspec refuses: odd types, lone surrogates, and the NaN and -Infinity of servers in Python."""
    value = loads_object(content)
    body = _Body(**{key: value.get(key) for key in _Body.__struct_fields__})
    listed = body.choices if isinstance(body.choices, list) else []
    body.choices = [_lenient_choice(choice, n) for n, choice in enumerate(listed)]
    return body


def _lenient_choice(value: Any, number: int) -> _Choice:
    found = expect_object(value, f"choices[{number}]")
    choice = _Choice(**{key: found[key] for key in _Choice.__struct_fields__ if key in found})
    message = found.get("message")
    if isinstance(message, dict):
        choice.message = _Message(**{key: message.get(key) for key in _Message.__struct_fields__})
    else:
        choice.message = None
    return choice


def _no_choices(body: _Body) -> DecodeError:
    if body.error is not None or body.object == "error":
        return reported_error(body.error if body.error is not None else body.message)
    state = "missing or null" if body.choices is None else "empty"
    return DecodeError(f"choices: {state}, expected a list of at least one choice")


def _indices(choices: list[_Choice]) -> list[int]:
    indices = [choice.index for choice in choices]
    if indices == [None]:
        return [0]
    for n, index in enumerate(indices):
        check_choice_index(index, f"choices[{n}].index")
        if index in indices[:n]:
            raise DecodeError(f"choices[{n}].index: {index} stands twice")
    return indices


def _choice(choice: _Choice, index: int, path: str) -> Choice:
    message = choice.message or _Message()
    text = _text_of_message(message.content)
    return Choice(
        index=index,
        path=f"{path}.logprobs",
        finish_reason=text_or_none(choice.finish_reason),
        text=text_or_none(choice.text) if text is None else text,
        refusal=text_or_none(message.refusal),
        tool_calls=compact_json(message.tool_calls, f"{path}.message.tool_calls"),
        logprobs=_read_or_raw(choice.logprobs),
        prompt_logprobs=_read_or_raw(choice.prompt_logprobs),
        prompt_path=f"{path}.prompt_logprobs",
    )


def _read_or_raw(value: Any) -> Any:
    return bytes(value) if isinstance(value, msgspec.Raw) else value


def _text_of_message(content: Any) -> str | None:
    """The text of a message: a string, or the texts of a list of parts."""
    if not isinstance(content, list):
        return text_or_none(content)
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return clean_text("".join(text for text in texts if isinstance(text, str)))
