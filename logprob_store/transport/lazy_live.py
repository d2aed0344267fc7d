"""The live transport, checked at once and opened at its first call.

Loading the SDK and its HTTP clients takes half a second, and a run whose answers are all in the cache makes no call.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from logprob_store.transport.environment import check_environment
from logprob_store.transport.url_and_key import check_key, check_url, warn_of_plain_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport


@contextlib.asynccontextmanager
async def lazy_live_transport(
    *,
    base_url: str | None,
    api_key: str | None,
    azure_api_version: str | None,
    azure_deployment: str | None,
    concurrency: int,
    timeout_s: float,
    max_answer_bytes: int,
    headers: Mapping[str, str],
    query: Mapping[str, str],
) -> AsyncIterator[Transport]:
    """`live.live_transport` with these arguments, opened when the first call is made.

    Raises:
        JobError: the URL, the key, or a proxy or certificate of the environment is not usable.
    """
    check_url(base_url)
    check_environment(base_url)
    check_key(api_key or "")
    warn_of_plain_http(base_url, api_key or "", *headers.values())
    transports: list[Transport] = []
    opening = asyncio.Lock()
    async with contextlib.AsyncExitStack() as opened:

        async def open_live() -> Transport:
            from logprob_store.transport.live import live_transport

            return await opened.enter_async_context(
                live_transport(
                    base_url=base_url,
                    api_key=api_key,
                    azure_api_version=azure_api_version,
                    azure_deployment=azure_deployment,
                    concurrency=concurrency,
                    timeout_s=timeout_s,
                    max_answer_bytes=max_answer_bytes,
                    headers=headers,
                    query=query,
                )
            )

        async def call(request: Request) -> Answer:
            if not transports:
                async with opening:
                    if not transports:
                        transports.append(await open_live())
            return await transports[0](request)

        yield call
