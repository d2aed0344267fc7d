"""Google's Gemini Batch API: lines `{key, response}` or `{key, error}`, and `{key, request}` of the input file.

Answers to inlined requests have the key in `metadata`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.pieces import value_of
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value
from logprob_store.importing.readers.common import body_of_response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject

_FAILED: Final = range(400, 600)


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a line of an output or an input file."""
    others = {"response", "error", "request"} & held.keys()
    return bool(others) and held.keys() <= {"key", "metadata", *others} and _key_of(held) is not None


def _key_of(held: Mapping[str, Any]) -> str | None:
    key = value_of(held, "key")
    if key is None:
        metadata = value_of(held, "metadata")
        key = metadata.get("key") if isinstance(metadata, dict) else None
    return str(key) if isinstance(key, (str, int)) and not isinstance(key, bool) else None


def read(raw: RawObject) -> Iterator[Exchange]:
    """The call or the request of a line."""
    if "request" in raw:
        yield Exchange(prompt_id=_key_of(raw), request=parsed_value(raw, "request"), is_request=True)
        return
    status, body = body_of_response(raw)
    error = parsed_value(raw, "error")
    code = error.get("code") if isinstance(error, dict) else None
    if body is None and isinstance(code, int) and code in _FAILED:
        status, body = code, json.dumps({"error": error}).encode()
    yield Exchange(prompt_id=_key_of(raw), status=status, body=body, error=error, source="batch")
