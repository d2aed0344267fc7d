"""Answers in a field of a program's own log line: `{"response": "{...}"}`, `{"body": "{...}", "id": "7"}`.

The field holds the answer, JSON text of it, or an object with a `body`; `request` or `request_body` may be beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.registry import BODIES
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value, prompt_id_of
from logprob_store.importing.readers.common import body_of_response, holds_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject

_ANSWER_KEYS: Final = ("response", "response_body", "raw_response", "body")
_REQUEST_KEYS: Final = ("request_body", "request")


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object has an answer in one of these fields, and is none itself."""
    return _field_of(held) is not None and not any(form.recognises(held) for form in BODIES)


def _field_of(held: Mapping[str, Any]) -> str | None:
    """The field that holds the answer."""
    return next((key for key in _ANSWER_KEYS if key in held and holds_answer(_body(held[key])[1] or b"")), None)


def _body(value: Any) -> tuple[int, bytes | None]:
    raw = value if isinstance(value, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(value))
    return body_of_response({"response": raw})


def read(raw: RawObject) -> Iterator[Exchange]:
    """The call of a line."""
    field = _field_of(raw)
    status, body = _body(raw[field]) if field is not None else (200, None)
    request = next((parsed_value(raw, key) for key in _REQUEST_KEYS if key in raw), None)
    yield Exchange(prompt_id=prompt_id_of(raw), request=request, status=status, body=body)
