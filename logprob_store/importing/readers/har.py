"""HAR files, as browsers and proxies write them (`log.entries`), and single entries, as a torn file has them.

Calls that are not to a model are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.body import expect_list, object_or_empty
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value, read_object
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


OPENING: Final = opening_of("log", "{")
_ENTRY_KEYS: Final = frozenset({"startedDateTime", "request", "response"})


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a HAR file or an entry of one."""
    if held.keys() >= _ENTRY_KEYS:
        return True
    log = held.get("log")
    log = read_object(bytes(log)) if isinstance(log, msgspec.Raw) else log
    return isinstance(log, dict) and "entries" in log


def read(raw: RawObject) -> Iterator[Exchange]:
    """The calls to a model, in the order of the file."""
    if "log" not in raw:
        yield from _read_entry({key: parsed_value(raw, key) for key in raw}, None)
        return
    found = False
    for n, one in enumerate(expect_list(parsed_value(raw, "log").get("entries"), "log.entries")):
        for exchange in _read_entry(object_or_empty(one), n):
            found = True
            yield exchange
    if not found:
        yield Exchange(problem=("unknown_format", "this is a HAR file, and none of its calls is to a model"))


def _read_entry(entry: dict[str, Any], number: int | None) -> Iterator[Exchange]:
    """The call of an entry, if it is one to a model."""
    request, response = object_under(entry, "request"), object_under(entry, "response")
    sent, body, problem = recorded_call(request.get("postData"), response.get("content"))
    if is_call_to_a_model(sent, body):
        status = response.get("status")
        yield Exchange(
            element=number,
            request=None if sent is None else sent.decode(errors="replace"),
            url=request.get("url") if isinstance(request.get("url"), str) else None,
            status=status if isinstance(status, int) and status else 200,
            body=body,
            problem=problem,
            recorded_at=time_of(entry.get("startedDateTime")),
        )
