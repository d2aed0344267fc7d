"""Calls by another service tier than the one that a server would take, such as `flex`, which costs half.

The tier is written into what is sent, and nowhere else: the question stays the same, so that an answer by any tier is
the answer to it, in the cache, in recordings and in the tables, where `service_tier` says which tier it came from. A
request that names a tier itself is sent as it is.

A server without room for a call by `flex` refuses it for nothing, and `run.attempts` tries it again. What is done here
is to ask the standard tier in the end, if that is wanted.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Final

from logprob_store.errors import RetryableError

if TYPE_CHECKING:
    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport

_STANDARD: Final = "default"


def send_by_tier(transport: Transport, tier: str, *, fallback_s: float | None = None) -> Transport:
    """A transport that sends each call by a service tier.

    Args:
        transport: makes one call.
        tier: as the API names it.
        fallback_s: seconds after the first call for a request from which on it is sent by the standard tier; None for
            never.
    """
    first_sent: dict[str, float] = {}  # the loop's time, of each request that is tried again

    async def call(request: Request) -> Answer:
        if "service_tier" in request.body:
            return await transport(request)
        now = asyncio.get_running_loop().time()
        first = first_sent.pop(request.key, None)
        is_late = fallback_s is not None and first is not None and now - first >= fallback_s
        try:
            answer = await transport(_with_tier(request, _STANDARD if is_late else tier))
        except RetryableError:
            first_sent[request.key] = now if first is None else first
            raise
        return dataclasses.replace(answer, request=request)

    return call


def _with_tier(request: Request, tier: str) -> Request:
    """The request with a tier in its body; its bytes are a JSON object that is not empty."""
    content = b'%b,"service_tier":"%b"}' % (request.content[:-1], tier.encode())
    return dataclasses.replace(request, body={**request.body, "service_tier": tier}, content=content)
