"""Cassettes of vcrpy and pytest-recording (`interactions`), and of VCR for Ruby (`http_interactions`).

A single interaction is read, too, as a torn cassette has them.
The YAML form comes through `yaml_file`. Older cassettes of httpx have `status_code` and `content` in the response.
Calls that are not to a model are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.body import expect_list, object_or_empty
from logprob_store.decode.formats.pieces import value_of
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value
from logprob_store.importing.readers.common import (
    is_call_to_a_model,
    object_under,
    opening_of,
    recorded_call,
    time_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject

_KEYS: Final = ("interactions", "http_interactions")
_INTERACTION_KEYS: Final = frozenset({"request", "response", "recorded_at"})
OPENING: Final = opening_of("(?:http_)?interactions", "[")


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a cassette or an interaction of one."""
    return any(key in held for key in _KEYS) or _is_interaction(held)


def _is_interaction(held: Mapping[str, Any]) -> bool:
    if not (held.keys() <= _INTERACTION_KEYS and "request" in held and "response" in held):
        return False
    request = held["request"]
    if isinstance(request, msgspec.Raw) and b'"uri"' not in bytes(request):
        return False  # most pairs, without a parse of their requests
    return "uri" in object_or_empty(value_of(held, "request"))


def read(raw: RawObject) -> Iterator[Exchange]:
    """The calls to a model, in the order of the cassette."""
    key = next((key for key in _KEYS if key in raw), None)
    if key is None:
        yield from _read_interaction({key: parsed_value(raw, key) for key in raw}, None)
        return
    found = False
    for n, one in enumerate(expect_list(parsed_value(raw, key), key)):
        for exchange in _read_interaction(object_or_empty(one), n):
            found = True
            yield exchange
    if not found:
        yield Exchange(problem=("unknown_format", "this is a cassette of HTTP calls, and none of them is to a model"))


def _read_interaction(interaction: dict[str, Any], number: int | None) -> Iterator[Exchange]:
    """The call of an interaction, if it is one to a model."""
    request, response = object_under(interaction, "request"), object_under(interaction, "response")
    sent, body, problem = recorded_call(request.get("body"), response.get("body") or response.get("content"))
    if is_call_to_a_model(sent, body):
        yield Exchange(
            element=number,
            request=None if sent is None else sent.decode(errors="replace"),
            url=request.get("uri") if isinstance(request.get("uri"), str) else None,
            status=_status(response),
            body=body,
            problem=problem,
            recorded_at=time_of(interaction.get("recorded_at")),
        )


def _status(response: dict[str, Any]) -> int:
    held = response.get("status", response.get("status_code", 200))
    code = held.get("code") if isinstance(held, dict) else held
    return code if isinstance(code, int) else 200
