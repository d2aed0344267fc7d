"""Cassettes of vcrpy and pytest-recording (`interactions`), and of VCR for Ruby (`http_interactions`).

The YAML form comes through `yaml_file`. Older cassettes of httpx have `status_code` and `content` in the response.
Calls that are not to a model are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import expect_list
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value
from logprob_store.importing.readers.common import is_call_to_a_model, object_under, recorded_text, time_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject

_KEYS: Final = ("interactions", "http_interactions")


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a cassette."""
    return any(key in held for key in _KEYS)


def read(raw: RawObject) -> Iterator[Exchange]:
    """The calls to a model, in the order of the cassette."""
    key = next(key for key in _KEYS if key in raw)
    found = 0
    for n, one in enumerate(expect_list(parsed_value(raw, key), key)):
        interaction = one if isinstance(one, dict) else {}
        request, response = object_under(interaction, "request"), object_under(interaction, "response")
        sent = recorded_text(request.get("body"))
        body = recorded_text(response.get("body")) or recorded_text(response.get("content"))
        if not is_call_to_a_model(sent, body):
            continue
        found += 1
        yield Exchange(
            element=n,
            request=None if sent is None else sent.decode(errors="replace"),
            url=request.get("uri") if isinstance(request.get("uri"), str) else None,
            status=_status(response),
            body=body,
            recorded_at=time_of(interaction.get("recorded_at")),
        )
    if not found:
        yield Exchange(problem=("unknown_format", "this is a cassette of HTTP calls, and none of them is to a model"))


def _status(response: dict[str, Any]) -> int:
    held = response.get("status", response.get("status_code", 200))
    code = held.get("code") if isinstance(held, dict) else held
    return code if isinstance(code, int) else 200
