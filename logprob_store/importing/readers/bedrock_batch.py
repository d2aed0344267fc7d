"""Batches of Amazon Bedrock: `{recordId, modelInput, modelOutput}`, or `error` in the place of the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a line of an output or an input file."""
    return "modelInput" in held and ("recordId" in held or "modelOutput" in held)


def read(raw: RawObject) -> Iterator[Exchange]:
    """The call or the request of a line."""
    record_id = parsed_value(raw, "recordId")
    prompt_id = record_id if isinstance(record_id, str) and record_id else None
    request = parsed_value(raw, "modelInput")
    if "modelOutput" not in raw and "error" not in raw:
        yield Exchange(prompt_id=prompt_id, request=request, is_request=True)
        return
    body = bytes(raw.get("modelOutput", b"null"))
    error = parsed_value(raw, "error")
    if isinstance(error, dict):
        error = {"code": error.get("errorCode"), "message": error.get("errorMessage", error)}
    yield Exchange(
        prompt_id=prompt_id, request=request, body=None if body == b"null" else body, error=error, source="batch"
    )
