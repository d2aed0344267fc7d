"""What a job names, opened and put together: transport, cache, pacing.

Holds the only place where the words of a job file choose an implementation. Leaves out what is done with them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import JobError
from logprob_store.pacing.pacer import Pacer
from logprob_store.replay.fixtures import Recordings
from logprob_store.replay.matching import replay_transport
from logprob_store.run.asker import Asker
from logprob_store.spending.budget import Budget
from logprob_store.store.call_log import CALL_LOG, open_call_log
from logprob_store.store.manifest import run_folder
from logprob_store.transport.url_and_key import check_key, check_url
from logprob_store.usage import Usage, usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from datetime import datetime

    from logprob_store.job import Job
    from logprob_store.request import Answer, Request
    from logprob_store.store.call_log import OpenCall
    from logprob_store.store.writing import RunWriter
    from logprob_store.transport import Transport


@contextlib.asynccontextmanager
async def open_transport(job: Job, *, api_key: str | None = None) -> AsyncIterator[Transport]:
    """The transport a job names, for as long as the context lasts.

    Raises:
        InputError: there is no key, or no usable fixtures.
    """
    if job.transport.kind == "replay":
        if job.transport.fixtures is None:
            raise JobError("transport replay needs transport.fixtures, a file or folder of recordings")
        yield replay_transport(Recordings(job.resolve(job.transport.fixtures)))
        return
    api_key = api_key or _no_key(job)
    check_url(job.model.base_url)
    check_key(api_key)
    async with contextlib.AsyncExitStack() as opened:
        yield _opened_with_the_first_call(job, api_key, opened)


def _opened_with_the_first_call(job: Job, api_key: str, opened: contextlib.AsyncExitStack) -> Transport:
    """The live transport; whoever has all answers already need not wait half a second for the SDK to load."""
    transports: list[Transport] = []
    turn = asyncio.Lock()

    async def call(request: Request) -> Answer:
        if not transports:
            async with turn:
                if not transports:
                    transports.append(await opened.enter_async_context(_live(job, api_key)))
        return await transports[0](request)

    return call


def _live(job: Job, api_key: str) -> contextlib.AbstractAsyncContextManager[Transport]:
    from logprob_store.transport.live import live_transport

    return live_transport(
        base_url=job.model.base_url,
        azure_api_version=job.model.azure_api_version,
        azure_deployment=job.model.deployment,
        api_key=api_key,
        concurrency=job.limits.concurrency,
        timeout_s=job.limits.timeout_s,
        max_answer_bytes=job.limits.max_answer_bytes,
    )


def _no_key(job: Job) -> str:
    """What is sent as a key when none was given; the SDK's own look into the environment is not wanted."""
    if job.key_variable is not None:
        raise JobError(
            f"there is no API key: {job.key_variable} is not set. `export {job.key_variable}=...`, name another "
            "variable with model.api_key_env, or set model.base_url to a server that wants no key."
        )
    return "none"


@contextlib.contextmanager
def open_cache(job: Job) -> Iterator[AnswerCache | None]:
    """The cache a job names; None when it is off, and under replay, where the fixtures are the cache."""
    if job.cache.mode == "off" or job.transport.kind == "replay":
        yield None
        return
    with AnswerCache(job.resolve(job.cache.path)) as cache:
        yield cache


@contextlib.contextmanager
def open_budget(job: Job, writer: RunWriter) -> Iterator[Budget]:
    """What a run has spent and may spend, remembered beside its manifest; a replay has nothing to spend.

    Raises:
        DiskError: the calls cannot be written down.
    """
    prices = job.prices.prices
    if job.transport.kind == "replay":
        yield Budget(prices=prices)
        return
    before = writer.manifest.spent
    calls = open_call_log(
        run_folder(writer.store, writer.run) / CALL_LOG,
        find=lambda calls: _answered(job, writer.manifest.run_id, calls),
        least=(before.requests, Usage(before.prompt_tokens, before.cached_tokens, before.completion_tokens)),
    )
    try:
        yield Budget(job.limits.ceilings, prices=prices, calls=calls)
    finally:
        calls.close()


def _answered(job: Job, run: str, calls: Sequence[OpenCall]) -> dict[int, Usage]:
    """Of calls that a dead process had under way, what those took whose answer came into the cache all the same."""
    with open_cache(job) as cache:
        kept = {} if cache is None else cache.get_many({call.key for call in calls})
    return {
        call.number: usage_of(kept[call.key].body) or call.worst
        for call in calls
        if call.key in kept and kept[call.key].was_bought_by(run, call.number)
    }


@contextlib.asynccontextmanager
async def open_asker(
    job: Job,
    transport: Transport,
    *,
    run: str | None = None,
    resumed_from: datetime | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[Asker]:
    """A transport with cache, pacing and retry around it, as a job names them.

    `resumed_from` is when the run began, if this is not its first session. Without a run's `budget` the job's
    ceilings hold for this asker alone.
    """
    limits = job.limits
    with open_cache(job) as cache:
        async with Asker(
            transport,
            pacer=Pacer(
                limits.concurrency,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                patience_s=limits.retry_for_s,
            ),
            cache=cache,
            fresh_for=run if job.cache.mode == "refresh" else None,
            resumed_from=resumed_from if job.cache.mode == "refresh" else None,
            run=run,
            attempts=limits.attempts,
            retry_for_s=limits.retry_for_s,
            budget=budget or Budget(limits.ceilings, prices=job.prices.prices),
        ) as asker:
            yield asker
