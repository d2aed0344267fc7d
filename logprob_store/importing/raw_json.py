"""The values of a JSON object by their keys, still raw, and what is read of them without parsing the rest.

Skipping through an answer costs a tenth of parsing it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.body import loads, raw_object
from logprob_store.decode.formats.choices import CHUNK, is_chunk
from logprob_store.decode.formats.registry import BODIES, STREAM_END_KEYS
from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

Keys = dict[str, msgspec.Raw]

_IDS: Final = ("custom_id", "prompt_id", "id", "key")
_LONGEST_ID: Final = 1000
_NO_CHOICES: Final = msgspec.Raw(b"[]")
_FALSE: Final = msgspec.Raw(b"false")
_TRUE: Final = msgspec.Raw(b"true")
_ENDPOINTS: Final = {"chat.completion": "chat", CHUNK: "chat", "response": "responses"}


def keys_of(content: bytes) -> Keys | None:
    """The values of an object, raw; None if it is none."""
    keys = raw_object(content)
    if keys is not None:
        return keys
    try:
        value = loads(content)
    except DecodeError:
        return None
    # NaN, -Infinity and lone surrogates are no JSON, but servers written in Python send them.
    return (
        {key: msgspec.Raw(json.dumps(one).encode()) for key, one in value.items()} if isinstance(value, dict) else None
    )


def value_of(keys: Mapping[str, msgspec.Raw], name: str) -> Any:
    """The value under a key, parsed; None if there is none."""
    return loads(bytes(keys[name])) if name in keys else None


def text_of(keys: Keys, name: str) -> str | None:
    """A short text that is not empty, or None."""
    raw = keys.get(name)
    value = None if raw is None or len(raw) > _LONGEST_ID else loads(bytes(raw))
    return (clean_text(value) or None) if isinstance(value, str) else None


def id_of(keys: Keys) -> str | None:
    """The prompt's id: the first of its usual names that holds a text or a whole number."""
    for name in _IDS:
        value = value_of(keys, name)
        if isinstance(value, str) and value:
            return clean_text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def endpoint_of(keys: Keys, body: bytes) -> str:
    """The endpoint that gives such bodies, named as in a job file; of other APIs the name of their format."""
    kind = text_of(keys, "object") or (text_of(keys, "type") or "").partition(".")[0]
    if kind in _ENDPOINTS:
        return _ENDPOINTS[kind]
    if "choices" in keys:
        return "chat" if b'"message"' in body or b'"delta"' in body else "completions"
    return next((form.NAME for form in BODIES if form.recognises(keys)), "unknown")


def is_piece_of_stream(keys: Keys) -> bool:
    """Whether an object is a chunk or an event, and not its last where that is marked (`ends_stream`).

    Azure begins a stream with one that has no choices and no name; Ollama and llama.cpp say what is not the end.
    """
    named = is_chunk(keys) or (text_of(keys, "type") or "").startswith("response.")
    return named or keys.get("choices") == _NO_CHOICES or any(keys.get(name) == _FALSE for name in STREAM_END_KEYS)


def begins_stream(keys: Keys) -> bool:
    """Whether an object says that it is the first of a stream; chunks do not say so."""
    return text_of(keys, "type") == "response.created"


def ends_stream(keys: Keys, first: Keys) -> bool:
    """Whether an object says that it is the last of the stream that `first` began; chunks do not say so."""
    return any(first.get(name) == _FALSE and keys.get(name) == _TRUE for name in STREAM_END_KEYS)


def id_of_events(content: bytes) -> str | None:
    """The id in the first event whose data has one."""
    for line in content.split(b"\n"):
        keys = keys_of(line.partition(b":")[2].strip()) if line.startswith(b"data:") else None
        if keys and (found := text_of(keys, "id")):
            return found
    return None
