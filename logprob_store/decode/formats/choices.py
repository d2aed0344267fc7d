"""Bodies with `choices`: chat completions and legacy completions, by far the most common.

Each choice's `logprobs` stays raw bytes, since skipping it is ten times as fast as parsing it. Where it is a bare list
of tokens, it is read as the `content` of the chat shape, and the layout is `{"format": "choices"}`. Some gateways put
it into the message, or beside the choices.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    compact_json,
    count_or_none,
    kind_of,
    loads_object,
    number_choices,
    raw_object,
    refuse_reported_error,
    text_or_none,
    time_or_none,
    without_bom,
)
from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import DecodeError
from logprob_store.mended_json import is_utf8, loads_leniently
from logprob_store.reported_errors import MayReport, ends_in_failure

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from logprob_store.request import Answer

NAME: Final = "choices"
CHUNK: Final = "chat.completion.chunk"
"""The `object` of a chunk, a piece of a stream."""

_CHOICE_KEYS: Final = frozenset({"message", "text", "logprobs"})


class _Message(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    logprobs: Any = None


class _Choice(msgspec.Struct):
    index: Any = None
    message: _Message | None = None
    text: Any = None
    finish_reason: Any = None
    error: Any = None
    logprobs: Any = msgspec.UNSET
    prompt_logprobs: Any = None
    prompt_token_ids: Any = None


class _RawChoice(_Choice):
    logprobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt_logprobs: msgspec.Raw | None = None
    prompt_token_ids: msgspec.Raw | None = None


class _Body(MayReport):
    id: Any = None
    model: Any = None
    created: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None
    usage: Any = None
    choices: Any = None
    logprobs: Any = None
    prompt_logprobs: Any = None
    prompt_token_ids: Any = None


class _RawBody(_Body):
    choices: list[_RawChoice] | None = None
    prompt_logprobs: msgspec.Raw | None = None
    prompt_token_ids: msgspec.Raw | None = None


_LAYOUT: Final = {"format": NAME}
_RAW_CHUNK: Final = msgspec.Raw(b'"%b"' % CHUNK.encode())
_DECODER: Final = msgspec.json.Decoder(_RawBody)
_NULL: Final = msgspec.Raw(b"null")
_CHOICES: Final = msgspec.json.Decoder(list[_RawChoice])
_RAW_FIELDS: Final = frozenset({"choices", "prompt_logprobs", "prompt_token_ids"})


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is one of chat completions or completions."""
    return "choices" in keys


def read(answer: Answer) -> Reply:
    """Read a body of chat completions or completions.

    Raises:
        DecodeError: it is not JSON, reports an error, or has no choices.
    """
    content = without_bom(answer.body)
    body = _parse(content)
    if body is None:
        body = _parse_each_field(content)
    return _reply(body if body is not None and body.choices else _parse_leniently(content), content)


def try_read(answer: Answer) -> Reply | None:
    """Read a body if it is certainly of this format and needs no lenient parser; otherwise None.

    Raises:
        DecodeError: the body reports an error.
    """
    if b'"choices"' not in answer.body:  # quick to find where it is; saves other formats a parse of the body
        return None
    content = without_bom(answer.body)
    body = _parse(content)
    if body is None or not body.choices or body.object == CHUNK:
        return None
    return _reply(body, content)


def read_with_placeholders(content: bytes, placeholders: Collection[bytes]) -> Reply | None:
    """Read a body whose logprobs were replaced by placeholders; None unless exactly these replace those of choices.

    Raises:
        DecodeError: the body reports an error.
    """
    body = _parse(content)
    if body is None or not body.choices or body.object == CHUNK:
        return None
    found = [bytes(choice.logprobs) for choice in body.choices if choice.logprobs is not msgspec.UNSET]
    if sorted(found) != sorted(placeholders):
        return None
    return _reply(body, content)


def is_chunk(keys: Mapping[str, msgspec.Raw]) -> bool:
    """Whether an object, its values still raw, is a chunk."""
    return keys.get("object") == _RAW_CHUNK


def _reply(body: _Body, content: bytes) -> Reply:
    if body.is_suspect() or any(_may_have_failed(choice) for choice in body.choices):
        refuse_reported_error(loads_object(content))
    usage = body.usage if isinstance(body.usage, dict) else {}
    listed = body.choices
    places = [n for n, choice in enumerate(listed) if not _is_empty(choice)] if len(listed) > 1 else [0]
    places = places or list(range(len(listed)))
    numbers = number_choices([listed[n].index for n in places])
    beside = body.logprobs if len(places) == 1 else None
    choices = [_choice(listed[n], number, f"choices[{n}]", beside) for n, number in zip(places, numbers, strict=True)]
    choices.sort(key=lambda choice: choice.index)
    if body.prompt_logprobs is not None and choices[0].prompt_logprobs is None:  # chat has one prompt for all choices
        held, ids = _read_or_raw(body.prompt_logprobs), _read_or_raw(body.prompt_token_ids)
        choices[0] = replace(choices[0], prompt_logprobs=held, prompt_path="prompt_logprobs", prompt_token_ids=ids)
    return Reply(
        text_or_none(body.id),
        text_or_none(body.model),
        time_or_none(body.created),
        text_or_none(body.system_fingerprint),
        _tokens(usage, "prompt_tokens", "input_tokens"),
        _tokens(usage, "completion_tokens", "output_tokens"),
        choices,
        text_or_none(body.service_tier),
    )


def _tokens(usage: Mapping[str, Any], name: str, other: str) -> int | None:
    """A count of tokens: a batch may have the name of the Responses API, beside its own that is 0."""
    value = usage.get(name)
    return count_or_none(value or usage.get(other, value))


def _parse(content: bytes) -> _Body | None:
    """The body; None if msgspec refuses it."""
    try:
        return _DECODER.decode(content) if is_utf8(content) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _parse_each_field(content: bytes) -> _Body | None:
    """A body with a number beside its choices that is too long to read, which says nothing; None if more is wrong."""
    held = raw_object(content)
    if held is None or "choices" not in held:
        return None
    plain = [key for key in _Body.__struct_fields__ if key in held and key not in _RAW_FIELDS]
    try:
        body = _RawBody(**{key: loads_leniently(bytes(held[key])) for key in plain})
        body.choices = _CHOICES.decode(held["choices"])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    given = {key: held[key] for key in ("prompt_logprobs", "prompt_token_ids") if held.get(key, _NULL) != _NULL}
    body.prompt_logprobs, body.prompt_token_ids = given.get("prompt_logprobs"), given.get("prompt_token_ids")
    return body


def _parse_leniently(content: bytes) -> _Body:
    """A body with what msgspec refuses: odd types, lone surrogates, and the NaN and -Infinity of servers in Python.

    Raises:
        DecodeError: it is not JSON, or has no choices; the error is the server's own if it reports one.
    """
    value = loads_object(content)
    listed = value.get("choices")
    if isinstance(listed, dict) and not _CHOICE_KEYS.isdisjoint(listed):
        listed = [listed]
    choices = listed if isinstance(listed, list) else []
    if not any(isinstance(choice, dict) for choice in choices):
        refuse_reported_error(value)
        raise _no_choices(value.get("choices"))
    body = _Body(**{key: value.get(key) for key in _Body.__struct_fields__})
    body.choices = [_lenient_choice(choice) for choice in choices]
    return body


def _lenient_choice(found: Any) -> _Choice:
    if not isinstance(found, dict):
        return _Choice()
    choice = _Choice(**{key: found[key] for key in _Choice.__struct_fields__ if key in found})
    message = found.get("message")
    if isinstance(message, dict):
        choice.message = _Message(**{key: message.get(key) for key in _Message.__struct_fields__})
    else:
        choice.message = None
    return choice


def _no_choices(listed: Any) -> DecodeError:
    if listed:
        found = f"a list of {kind_of(listed[0])}" if isinstance(listed, list) else kind_of(listed)
        return DecodeError(f"choices: expected a list of objects, got {found}")
    state = "missing or null" if listed is None else "empty"
    return DecodeError(f"choices: {state}, expected a list of at least one choice")


def _is_empty(choice: _Choice) -> bool:
    """Whether nothing is in a choice: there is no answer in it, and it is left out beside others."""
    if choice.logprobs is not msgspec.UNSET:
        return False
    held = (choice.message, choice.text, choice.finish_reason, choice.error, choice.prompt_logprobs)
    return all(value is None for value in held)


def _may_have_failed(choice: _Choice) -> bool:
    end = choice.finish_reason
    return choice.error is not None or (end != "stop" and ends_in_failure(end))


def _choice(choice: _Choice, index: int, path: str, beside: Any) -> Choice:
    """A choice; of an only one, the logprobs may stand in its message or `beside` the choices."""
    message = choice.message or _Message()
    text = _text_of_message(message.content)
    logprobs, logprobs_path = _read_or_raw(choice.logprobs), f"{path}.logprobs"
    if logprobs in (msgspec.UNSET, None, b"null"):
        elsewhere = {f"{path}.message.logprobs": message.logprobs, "logprobs": beside}
        found = next((place for place, held in elsewhere.items() if isinstance(held, (dict, list))), None)
        logprobs, logprobs_path = (logprobs, logprobs_path) if found is None else (elsewhere[found], found)
    bare = logprobs[:1] == b"[" if isinstance(logprobs, bytes) else isinstance(logprobs, list)
    if bare:
        logprobs = b'{"content":' + logprobs + b"}" if isinstance(logprobs, bytes) else {"content": logprobs}
    return Choice(
        index=index,
        path=logprobs_path,
        finish_reason=text_or_none(choice.finish_reason),
        text=text_or_none(choice.text) if text is None else text,
        refusal=text_or_none(message.refusal),
        tool_calls=compact_json(_calls(message), f"{path}.message.tool_calls"),
        logprobs=logprobs,
        layout=_LAYOUT if bare else None,
        prompt_logprobs=_read_or_raw(choice.prompt_logprobs),
        prompt_path=f"{path}.prompt_logprobs",
        prompt_token_ids=_read_or_raw(choice.prompt_token_ids),
    )


def _calls(message: _Message) -> Any:
    """The tool calls, or the call in the deprecated `function_call` as `tool_calls` would list it."""
    if message.tool_calls or not message.function_call:
        return message.tool_calls
    return [{"type": "function", "function": message.function_call}]


def restore(_: Mapping[str, Any], value: Any) -> Any:
    """The bare list of tokens again."""
    return value["content"]


def _read_or_raw(value: Any) -> Any:
    return bytes(value) if isinstance(value, msgspec.Raw) else value


def _text_of_message(content: Any) -> str | None:
    """The text of a message: a string, or the texts of a part or of a list of parts."""
    if isinstance(content, dict):
        return text_or_none(content.get("text"))
    if not isinstance(content, list):
        return text_or_none(content)
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return clean_text("".join(text for text in texts if isinstance(text, str)))
