"""`{request, response}` pairs, as people write them themselves and as Vertex AI's batches do.

Each part may be wrapped in an object with a `body` (and a `url` or a status), and be written as JSON text. A Vertex
batch gives the reason of a failure in `status`, beside an empty response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value, prompt_id_of
from logprob_store.importing.readers.common import body_of_response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a pair."""
    return "request" in held and ("response" in held or "error" in held)


def read(raw: RawObject) -> Iterator[Exchange]:
    """The call of a pair."""
    status, body = body_of_response(raw)
    error = parsed_value(raw, "error")
    if body in (None, b"{}") and error is None and isinstance(parsed_value(raw, "status"), str):
        body, error = None, parsed_value(raw, "status") or None
    yield Exchange(
        prompt_id=prompt_id_of(raw), request=parsed_value(raw, "request"), status=status, body=body, error=error
    )
