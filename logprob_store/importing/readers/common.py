"""What several readers share: bodies in envelopes and encodings, times, and which calls are ones to a model."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zstandard

from logprob_store.decode.formats.body import expect_list
from logprob_store.decode.formats.registry import BODIES, PROMPT_KEYS, STREAMS
from logprob_store.errors import DecodeError
from logprob_store.importing.raw_json import RawObject, parsed_value, read_object
from logprob_store.mended_json import is_utf8, unquoted
from logprob_store.sse import EVENT_LINE

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROMPT_KEYS: Final = frozenset({"messages", "prompt", "input", *PROMPT_KEYS})
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_GZIP: Final = b"\x1f\x8b"
_ZLIB: Final = b"\x78"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


def opening_of(key: str, bracket: str) -> re.Pattern[str]:
    """Matches the beginning of an object that has many calls under a key, with plain values alone before it.

    >>> bool(opening_of("data", "[").match('{"object": "list", "data": [{'))
    True
    """
    plain = r'\s*"[^"]*"\s*:\s*(?:"[^"]*"|[^\s,"{}\[\]]+)\s*,'
    return re.compile(rf'\{{(?:{plain})*\s*"{key}"\s*:\s*\{bracket}')


def body_of_response(raw: RawObject) -> tuple[int, bytes | None]:
    """Status and body of the `response` of an object: a body, or an object with a status and a `body`.

    Either may be JSON text, also of JSON text. The body is None where there is no response.
    """
    body = unquoted(bytes(raw.get("response", b"null")))
    envelope = read_object(body)
    status = 200
    if envelope is not None and "body" in envelope and "choices" not in envelope:
        value = next((parsed_value(envelope, key) for key in ("status_code", "status") if key in envelope), 200)
        status = value if isinstance(value, int) else 200
        body = unquoted(bytes(envelope["body"]))
    return status, None if body in (b"null", b"") else body


def recorded_call(request: Any, response: Any) -> tuple[bytes | None, bytes | None, tuple[str, str] | None]:
    """Request and response of a recorded HTTP call, and what is wrong with the response.

    A request that cannot be read, such as an upload of audio, is not known.
    """
    try:
        sent = recorded_text(request)
    except DecodeError:
        sent = None
    try:
        return sent, recorded_text(response), None
    except DecodeError as error:
        return sent, None, ("malformed_answer", str(error))


def recorded_text(held: Any) -> bytes | None:
    """The bytes of a recorded HTTP body: a text, base64, or an object with either; unpacked if they are compressed.

    >>> recorded_text({"string": "{}"}), recorded_text({"base64_string": "e30="}), recorded_text(None)
    (b'{}', b'{}', None)
    """
    encoded = None
    if isinstance(held, dict):
        encoded = held.get("base64_string")
        if held.get("encoding") == "base64":
            encoded = held.get("text")
        held = next((held[key] for key in ("string", "text") if held.get(key) is not None), None)
        if isinstance(held, dict) and "base64_string" in held:  # bytes in YAML
            return recorded_text(held)
    if isinstance(encoded, str):
        try:
            return _unpacked(base64.b64decode(encoded))
        except binascii.Error as error:
            raise DecodeError(f"the recorded body is no base64: {error}") from error
    if isinstance(held, (dict, list)):
        return json.dumps(held).encode()
    return held.encode(errors="surrogatepass") if isinstance(held, str) and held else None


def _unpacked(content: bytes) -> bytes:
    try:
        if content.startswith((_GZIP, _ZLIB)):
            return zlib.decompress(content, wbits=47)  # gzip or zlib, whichever it is
        if content.startswith(_ZSTD):
            return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    except (zlib.error, zstandard.ZstdError) as error:
        raise DecodeError(f"the recorded body is compressed and damaged: {error}") from error
    if not is_utf8(content):
        raise DecodeError(
            "the recorded body is no text, and not compressed with gzip, deflate or zstd: perhaps with brotli "
            "(content-encoding: br), which is not read; unpack it, or record without it in accept-encoding"
        )
    return content


def holds_answer(content: bytes) -> bool:
    """Whether a value is an answer or a stream of one."""
    if EVENT_LINE.match(content.lstrip()):
        return any(form.recognises(_keys_of_events(content)) for form in STREAMS)
    answer = read_object(content)
    return answer is not None and any(form.recognises(answer) for form in BODIES)


def is_call_to_a_model(request: bytes | None, response: bytes | None) -> bool:
    """Whether a recorded HTTP call is one to a model, by its prompt or its answer; a recording holds others, too."""
    asked = None if request is None else read_object(request)
    if asked is not None and not _PROMPT_KEYS.isdisjoint(asked):
        return True
    return response is not None and holds_answer(response)


def _keys_of_events(content: bytes) -> Mapping[str, Any]:
    first = next((line for line in content.split(b"\n") if line.startswith(b"data:")), b"")
    return read_object(first.removeprefix(b"data:").strip()) or {}


def raw_list(raw: RawObject, key: str) -> list[bytes]:
    """The items of the list under a key, each as JSON; none where there is no list.

    Raises:
        DecodeError: the value is no list.
    """
    if key not in raw:
        return []
    try:
        return [bytes(item) for item in _LIST.decode(raw[key])]
    except (msgspec.DecodeError, RecursionError):  # NaN, lone surrogates, or null
        listed = parsed_value(raw, key)
        return [] if listed is None else [json.dumps(item).encode() for item in expect_list(listed, key)]


def object_under(held: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under a key; an empty one where there is none."""
    value = held.get(key)
    return value if isinstance(value, dict) else {}


def time_of(value: Any) -> datetime | None:
    """The time that an ISO 8601 text names; None for any other value."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)
