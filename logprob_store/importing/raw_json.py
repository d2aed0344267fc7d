"""JSON objects as raw values by key, and the few values that importing reads before an answer is decoded.

Splitting an answer into raw values takes a tenth of the time of parsing it.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from logprob_store.decode.formats.body import loads, raw_object
from logprob_store.decode.formats.choices import CHUNK, is_chunk
from logprob_store.decode.formats.registry import BODIES, STREAM_END_KEYS
from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import DecodeError

RawObject = dict[str, msgspec.Raw]

_PROMPT_ID_KEYS: Final = ("custom_id", "prompt_id", "id", "key")
_LONGEST_TEXT_BYTES: Final = 1000
_NO_CHOICES: Final = msgspec.Raw(b"[]")
_FALSE: Final = msgspec.Raw(b"false")
_TRUE: Final = msgspec.Raw(b"true")
_ENDPOINTS: Final = {"chat.completion": "chat", CHUNK: "chat", "response": "responses"}


def read_object(content: bytes) -> RawObject | None:
    """The raw values of a JSON object by key; None if the content is no object."""
    raw = raw_object(content)
    if raw is not None:
        return raw
    try:
        value = loads(content)
    except DecodeError:
        return None
    # msgspec refuses NaN, -Infinity and lone surrogates, which servers written in Python send.
    return (
        {key: msgspec.Raw(json.dumps(one).encode()) for key, one in value.items()} if isinstance(value, dict) else None
    )


def parsed_value(raw: RawObject, key: str) -> Any:
    """The parsed value under a key; None without that key."""
    return loads(bytes(raw[key])) if key in raw else None


def text_value(raw: RawObject, key: str) -> str | None:
    """The text under a key; None if it is empty, longer than 1000 bytes or no text."""
    content = raw.get(key)
    value = None if content is None or len(content) > _LONGEST_TEXT_BYTES else loads(bytes(content))
    return (clean_text(value) or None) if isinstance(value, str) else None


def prompt_id_of(raw: RawObject) -> str | None:
    """The prompt's id: the first of its usual keys that holds a text or a whole number."""
    for key in _PROMPT_ID_KEYS:
        value = parsed_value(raw, key)
        if isinstance(value, str) and value:
            return clean_text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def endpoint_of(raw: RawObject, body: bytes) -> str:
    """The endpoint that returns such bodies, named as in a job file; for other APIs the name of their format."""
    kind = text_value(raw, "object") or (text_value(raw, "type") or "").partition(".")[0]
    if kind in _ENDPOINTS:
        return _ENDPOINTS[kind]
    if "choices" in raw:
        return "chat" if b'"message"' in body or b'"delta"' in body else "completions"
    return next((form.NAME for form in BODIES if form.recognises(raw)), "unknown")


def is_piece_of_stream(raw: RawObject) -> bool:
    """Whether an object is a chunk or event of a stream; False for a last piece that `ends_stream` recognises.

    Azure starts a stream with a chunk that has no choices and no name. Ollama and llama.cpp mark each piece but the
    last with `"done": false` or `"stop": false`.
    """
    is_named = is_chunk(raw) or (text_value(raw, "type") or "").startswith("response.")
    return is_named or raw.get("choices") == _NO_CHOICES or any(raw.get(key) == _FALSE for key in STREAM_END_KEYS)


def begins_stream(raw: RawObject) -> bool:
    """Whether an object is marked as the first of a stream; chunks have no such mark."""
    return text_value(raw, "type") == "response.created"


def ends_stream(raw: RawObject, first: RawObject) -> bool:
    """Whether an object is marked as the last of the stream that starts with `first`; chunks have no such mark."""
    return any(first.get(key) == _FALSE and raw.get(key) == _TRUE for key in STREAM_END_KEYS)


def response_id_of_events(content: bytes) -> str | None:
    """The response's id in an event stream: that of the first event whose data has one."""
    for line in content.split(b"\n"):
        raw = read_object(line.partition(b":")[2].strip()) if line.startswith(b"data:") else None
        if raw and (found := text_value(raw, "id")):
            return found
    return None
