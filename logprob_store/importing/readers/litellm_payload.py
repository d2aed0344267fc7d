"""Logging payloads of LiteLLM (`StandardLoggingPayload`): messages, parameters and response of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logprob_store.decode.formats.body import loads
from logprob_store.errors import DecodeError
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value
from logprob_store.importing.readers.common import body_of_response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a payload."""
    return "call_type" in held and "response" in held and ("messages" in held or "model_parameters" in held)


def _from_text(value: Any) -> Any:
    """The list or the object in a JSON text, as LiteLLM's database has them; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return loads(value.encode(errors="surrogatepass"))
        except DecodeError:
            return value
    return value


def read(raw: RawObject) -> Iterator[Exchange]:
    """The call of a payload."""
    status, body = body_of_response(raw)
    error = parsed_value(raw, "error_str") or parsed_value(raw, "error_information")
    if parsed_value(raw, "status") == "failure":
        body = None
    messages = _from_text(parsed_value(raw, "messages"))
    parameters = _from_text(parsed_value(raw, "model_parameters"))
    prompt = {"messages": messages} if isinstance(messages, list) else {"prompt": messages}
    request = {"model": parsed_value(raw, "model"), **prompt, **(parameters if isinstance(parameters, dict) else {})}
    yield Exchange(request=request if messages else None, status=status, body=body, error=error)
