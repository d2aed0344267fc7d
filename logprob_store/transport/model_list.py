"""The models that a server lists, which costs nothing to ask."""

from __future__ import annotations

import datetime as dt
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import msgspec

from logprob_store.transport.addresses import Addresses
from logprob_store.transport.body_reader import BodyReader
from logprob_store.transport.live import connection_error, http_session
from logprob_store.transport.redaction import Redaction
from logprob_store.transport.refusals import error_of_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.errors import LogprobStoreError

_MOST_BYTES: Final = 1 << 24


class ModelList(NamedTuple):
    """What a server said to the question for its models.

    `names` is None where it gave no list, and `refusal` then says why, or is None. `date` is the time by the server's
    clock, as an HTTP date. `shutdowns` has the day on which a model shuts down, where the server says one.
    """

    names: list[str] | None
    refusal: LogprobStoreError | None
    status: int
    date: str | None
    shutdowns: dict[str, dt.date] = {}  # noqa: RUF012  a tuple's default, which nothing changes


async def list_models(
    *,
    base_url: str | None,
    api_key: str | None,
    headers: Mapping[str, str] = MappingProxyType({}),
    query: Mapping[str, str] = MappingProxyType({}),
    timeout_s: float,
) -> ModelList:
    """Ask a server for its models.

    Raises:
        JobError: as `live_transport`.
        CallError: it cannot be reached.
    """
    addresses = Addresses(base_url=base_url, api_key=api_key, headers=headers, query=query)
    address = await addresses.of_models()
    redact = Redaction(*addresses.secrets).text
    async with http_session(base_url, addresses, concurrency=1, timeout_s=timeout_s) as session:
        try:
            async with session.get(
                address.url, headers=address.headers, proxy=address.proxy, allow_redirects=False
            ) as response:
                body = await BodyReader(_MOST_BYTES).read(response)
        except (aiohttp.ClientError, OSError) as error:
            raise connection_error(error, redact) from error
    date = response.headers.get("date")
    if response.status != 200:  # noqa: PLR2004  OK
        refusal = error_of_status(
            response.status, response.headers, body, redact=redact, sent_key=api_key != "" or bool(headers)
        )
        return ModelList(None, refusal, response.status, date)
    listed = _listed(body)
    names = None if listed is None else list(listed)
    shutdowns = {name: day for name, day in (listed or {}).items() if day is not None}
    return ModelList(names, None, response.status, date, shutdowns)


def _listed(body: bytes) -> dict[str, dt.date | None] | None:
    """The names in a list of models with their days of shutdown; None for what is no such list.

    It is `data` of OpenAI's API, `models` of others.

    >>> _listed(b'{"data": [{"id": "a", "shutdown_date": "2027-01-14"}, {}]}')
    {'a': datetime.date(2027, 1, 14)}
    >>> _listed(b'{"models": [{"name": "b"}]}'), _listed(b"<html>")
    ({'b': None}, None)
    """
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    listed = (said.get("data") or said.get("models")) if isinstance(said, dict) else said
    if not isinstance(listed, list):
        return None
    named = ((item.get("id") or item.get("name"), item) for item in listed if isinstance(item, dict))
    return {name: _day(item.get("shutdown_date")) for name, item in named if isinstance(name, str)}


def _day(said: Any) -> dt.date | None:
    """A day that a server wrote; None where it is no day."""
    try:
        return dt.date.fromisoformat(said[:10])
    except (TypeError, ValueError):
        return None
