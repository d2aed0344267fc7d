"""The resources that a job names, opened: transport, cache, budget, asker.

This is the only module in which the words of a job file choose an implementation.
"""

from __future__ import annotations

import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import JobError
from logprob_store.pacing.pacer import Pacer
from logprob_store.replay.fixtures import Recordings
from logprob_store.replay.matching import replay_transport
from logprob_store.run.asker import Asker
from logprob_store.run.descriptors import room_for
from logprob_store.spending.budget import Budget, Ceilings
from logprob_store.store.call_log import CALL_LOG, open_call_log
from logprob_store.store.manifest import run_folder
from logprob_store.transport.lazy_live import lazy_live_transport
from logprob_store.usage import Usage, usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from datetime import datetime

    from logprob_store.job import Job
    from logprob_store.store.call_log import CallLog, OpenCall
    from logprob_store.store.commit import RunWriter
    from logprob_store.transport import Transport


@contextlib.asynccontextmanager
async def open_transport(
    job: Job, *, api_key: str | None = None, sdk_key: bool = False, variables: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Transport]:
    """The transport that a job names, for as long as the context lasts.

    Args:
        job: names it.
        api_key: the key for the server.
        sdk_key: without `api_key` and `base_url`, let the SDK look for OpenAI's key in the environment. No other server
            gets that key.
        variables: the values of `job.header_variables`.

    Raises:
        InputError: there is no key, or no usable fixtures.
    """
    if job.transport.kind == "replay":
        if job.transport.fixtures is None:
            raise JobError("transport replay needs transport.fixtures, a file or folder of recordings")
        yield replay_transport(Recordings(job.resolve(job.transport.fixtures)))
        return
    if api_key is None and not (sdk_key and job.model.base_url is None):
        api_key = _key_if_none_given(job)
    async with lazy_live_transport(
        base_url=job.model.base_url,
        api_key=api_key,
        azure_api_version=job.model.azure_api_version,
        azure_deployment=job.model.deployment,
        concurrency=job.limits.concurrency,
        timeout_s=job.limits.timeout_s,
        max_answer_bytes=job.limits.max_answer_bytes,
        headers=job.headers(variables),
        query=job.model.query,
    ) as transport:
        yield transport


def _key_if_none_given(job: Job) -> str:
    """The key to send where none is given: any text keeps the SDK from taking one from the environment.

    Raises:
        JobError: the job names a variable for its key.
    """
    if job.key_variable is not None:
        raise JobError(
            f"there is no API key: {job.key_variable} is not set. `export {job.key_variable}=...`, name another "
            "variable with model.api_key_env, or set model.base_url to a server that wants no key."
        )
    return "none"


@contextlib.contextmanager
def open_cache(job: Job) -> Iterator[AnswerCache | None]:
    """The cache that a job names; None when it is off, and for a replay, which has its answers from fixtures.

    Raises:
        CacheError: it cannot be opened.
    """
    if job.cache.mode == "off" or job.transport.kind == "replay":
        yield None
        return
    with AnswerCache(job.resolve(job.cache.path)) as cache:
        yield cache


@contextlib.contextmanager
def open_budget(job: Job, writer: RunWriter) -> Iterator[Budget]:
    """The budget of a run, with the record of calls beside the manifest. A replay spends nothing and has no record.

    Raises:
        DiskError: the record of calls cannot be written.
    """
    replays = job.transport.kind == "replay"
    with contextlib.ExitStack() as opened:
        calls = None if replays else opened.enter_context(contextlib.closing(_open_calls(job, writer)))
        ceilings = Ceilings() if replays else job.limits.ceilings
        yield Budget(ceilings, prices=job.prices.prices, calls=calls)


def _open_calls(job: Job, writer: RunWriter) -> CallLog:
    before = writer.manifest.spent
    return open_call_log(
        run_folder(writer.store, writer.run) / CALL_LOG,
        find=lambda calls: _answered(job, writer.manifest.run_id, calls),
        least=(before.requests, Usage(before.prompt_tokens, before.cached_tokens, before.completion_tokens)),
    )


def _answered(job: Job, run: str, calls: Sequence[OpenCall]) -> dict[int, Usage]:
    """The usage of those calls whose answer is in the cache, by the call's number.

    Args:
        job: names the cache.
        run: the id of the run.
        calls: were under way when an earlier process of the run died.
    """
    with open_cache(job) as cache:
        cached = {} if cache is None else cache.get_many({call.key for call in calls})
    return {
        call.number: usage_of(cached[call.key].body) or call.worst
        for call in calls
        if call.key in cached and cached[call.key].was_bought_by(run, call.number)
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
    """An asker: the transport with the cache, pacing and retry that a job names.

    Args:
        job: names them.
        transport: makes one call.
        run: the id of the run.
        resumed_from: when the run began, if this is not its first session.
        budget: of the run; without one, the job's ceilings hold for the calls of this asker alone.

    Raises:
        CacheError: the cache cannot be opened.
    """
    limits = job.limits
    # A replay opens no connection.
    room = room_for(limits.concurrency) if job.transport.kind == "live" else contextlib.nullcontext(limits.concurrency)
    with open_cache(job) as cache, room as concurrency:
        async with Asker(
            transport,
            pacer=Pacer(
                concurrency,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                patience_s=limits.retry_for_s,
            ),
            cache=cache,
            run=run,
            refresh=job.cache.mode == "refresh",
            resumed_from=resumed_from,
            attempts=limits.attempts,
            retry_for_s=limits.retry_for_s,
            budget=budget or Budget(limits.ceilings, prices=job.prices.prices),
        ) as asker:
            yield asker
