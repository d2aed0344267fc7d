"""The Batch API of OpenAI and of servers like it: lines of the output and error files, and of the input file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value, prompt_id_of
from logprob_store.importing.readers.common import body_of_response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a line of an output, an error or an input file."""
    return "custom_id" in held and ("response" in held or "error" in held or "body" in held)


def read(raw: RawObject) -> Iterator[Exchange]:
    """The call or the request of a line."""
    if "response" not in raw and "error" not in raw:
        request = {"url": parsed_value(raw, "url"), "body": parsed_value(raw, "body")}
        yield Exchange(prompt_id=prompt_id_of(raw), request=request, is_request=True)
        return
    status, body = body_of_response(raw)
    error = parsed_value(raw, "error")
    yield Exchange(prompt_id=prompt_id_of(raw), status=status, body=body, error=error, source="batch")
