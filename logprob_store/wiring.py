"""What a job names, opened and put together: transport, cache, pacing.

Holds the only place where the words of a job file choose an implementation. Leaves out what is done with them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from logprob_store.asking import Asker
from logprob_store.cache import AnswerCache
from logprob_store.errors import JobError
from logprob_store.fixtures import Recordings
from logprob_store.pacing import Slots
from logprob_store.transport.replay import replay_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from logprob_store.job import Job
    from logprob_store.transport import Transport


@contextlib.asynccontextmanager
async def open_transport(
    job: Job, *, api_key: str | None = None, run: str | None = None
) -> AsyncIterator[Transport]:
    """The transport a job names, for as long as the context lasts."""
    if job.transport.kind == "replay":
        if job.transport.fixtures is None:
            raise JobError("transport replay needs transport.fixtures, a file or folder of recordings")
        yield replay_transport(Recordings(job.resolve(job.transport.fixtures)))
        return
    from logprob_store.transport.live import live_transport

    limits = job.limits
    async with live_transport(
        base_url=job.model.base_url,
        api_key=api_key,
        concurrency=limits.concurrency,
        timeout_s=limits.timeout_s,
        run=run,
    ) as transport:
        yield transport


@contextlib.contextmanager
def open_cache(job: Job) -> Iterator[AnswerCache | None]:
    """The cache a job names; None when it is off, and under replay, where the fixtures are the cache."""
    if job.cache.mode == "off" or job.transport.kind == "replay":
        yield None
        return
    with AnswerCache(job.resolve(job.cache.path)) as cache:
        yield cache


@contextlib.asynccontextmanager
async def open_asker(job: Job, *, api_key: str | None = None, run: str | None = None) -> AsyncIterator[Asker]:
    """Cache, transport and pacing as a job names them, put together."""
    limits = job.limits
    slots = Slots(limits.concurrency, limits.requests_per_minute)
    with open_cache(job) as cache:
        async with (
            open_transport(job, api_key=api_key, run=run) as transport,
            Asker(
                transport,
                slots=slots,
                cache=cache,
                fresh_for=run if job.cache.mode == "refresh" else None,
                run=run,
                attempts=limits.attempts,
                retry_for_s=limits.retry_for_s,
            ) as asker,
        ):
            yield asker
