"""The resources that a job names, opened: transport, cache, budget, asker.

The only module in which the words of a job file choose an implementation.
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
from logprob_store.transport.machine import check_machine
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
async def open_transport(job: Job, *, api_key: str | None = None, sdk_key: bool = False) -> AsyncIterator[Transport]:
    """The transport that a job names, for as long as the context lasts.

    Args:
        job: names it.
        api_key: the key for the server.
        sdk_key: without `api_key`, let the SDK look for OpenAI's key in the environment. No other server gets that key.

    Raises:
        InputError: there is no key, no usable fixtures, or the environment names a proxy or certificates that cannot be
            used.
    """
    if job.transport.kind == "replay":
        if job.transport.fixtures is None:
            raise JobError("transport replay needs transport.fixtures, a file or folder of recordings")
        yield replay_transport(Recordings(job.resolve(job.transport.fixtures)))
        return
    if api_key is None and not (sdk_key and job.model.base_url is None):
        api_key = _no_key(job)
    check_url(job.model.base_url)
    check_machine(job.model.base_url)
    check_key(api_key or "")
    async with contextlib.AsyncExitStack() as opened:
        yield _opened_at_first_call(job, api_key, opened)


def _opened_at_first_call(job: Job, api_key: str | None, opened: contextlib.AsyncExitStack) -> Transport:
    """The live transport, opened at its first call: loading the SDK takes half a second, and there may be no call."""
    transports: list[Transport] = []
    turn = asyncio.Lock()

    async def call(request: Request) -> Answer:
        if not transports:
            async with turn:
                if not transports:
                    transports.append(await opened.enter_async_context(_live(job, api_key)))
        return await transports[0](request)

    return call


def _live(job: Job, api_key: str | None) -> contextlib.AbstractAsyncContextManager[Transport]:
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
    """The key that is sent when none was given: any text keeps the SDK from looking into the environment.

    Raises:
        JobError: the job needs a key.
    """
    if job.key_variable is not None:
        raise JobError(
            f"there is no API key: {job.key_variable} is not set. `export {job.key_variable}=...`, name another "
            "variable with model.api_key_env, or set model.base_url to a server that wants no key."
        )
    return "none"


@contextlib.contextmanager
def open_cache(job: Job) -> Iterator[AnswerCache | None]:
    """The cache that a job names; None when it is off, and for a replay, whose fixtures are the cache."""
    if job.cache.mode == "off" or job.transport.kind == "replay":
        yield None
        return
    with AnswerCache(job.resolve(job.cache.path)) as cache:
        yield cache


@contextlib.contextmanager
def open_budget(job: Job, writer: RunWriter) -> Iterator[Budget]:
    """The budget of a run, with the record of its calls beside its manifest; a replay spends nothing and has no record.

    Raises:
        DiskError: the record of calls cannot be written.
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
    """The usage of calls that a dead process had under way and whose answer is in the cache, by the call's number."""
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

    Args:
        job: names them.
        transport: makes one call.
        run: the id of the run.
        resumed_from: when the run began, if this is not its first session.
        budget: of the run; without one, the job's ceilings hold for this asker alone.
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
