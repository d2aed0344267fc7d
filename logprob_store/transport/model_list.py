"""The models that a server lists, which costs nothing to ask."""

from __future__ import annotations

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
    clock, as an HTTP date.
    """

    names: list[str] | None
    refusal: LogprobStoreError | None
    status: int
    date: str | None


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
        refusal = error_of_status(response.status, response.headers, body, redact=redact)
        return ModelList(None, refusal, response.status, date)
    return ModelList(_names(body), None, response.status, date)


def _names(body: bytes) -> list[str] | None:
    """The names in a list of models: `data` of OpenAI's API, `models` of others; None for what is no such list.

    >>> _names(b'{"data": [{"id": "a"}, {}]}'), _names(b'{"models": [{"name": "b"}]}'), _names(b"<html>")
    (['a'], ['b'], None)
    """
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    listed = (said.get("data") or said.get("models")) if isinstance(said, dict) else said
    if not isinstance(listed, list):
        return None
    names = ((item.get("id") or item.get("name")) for item in listed if isinstance(item, dict))
    return [name for name in names if isinstance(name, str)]
