"""Pages of stored answers, as `GET /v1/chat/completions` lists them: `{"object": "list", "data": [...]}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.pieces import text_under
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.readers.common import opening_of, raw_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject


OPENING: Final = opening_of("data", "[")


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a page of a list."""
    return "data" in held and "choices" not in held and text_under(held, "object") == "list"


def read(raw: RawObject) -> Iterator[Exchange]:
    """The answers of a page."""
    listed = raw_list(raw, "data")
    for n, body in enumerate(listed):
        yield Exchange(element=n, body=body)
    if not listed:
        yield Exchange(problem=("unknown_format", "this is a page of a list without any answers"))
