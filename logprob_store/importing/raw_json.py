"""JSON objects as raw values by key, and the few values that importing reads before an answer is decoded.

Splitting an answer into raw values takes a tenth of the time of parsing it.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from logprob_store.decode.formats.body import loads, raw_object
from logprob_store.decode.formats.choices import CHUNK
from logprob_store.decode.formats.registry import BODIES
from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import DecodeError

RawObject = dict[str, msgspec.Raw]

_PROMPT_ID_KEYS: Final = ("custom_id", "prompt_id", "id", "key")
_LONGEST_TEXT_BYTES: Final = 1000
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
