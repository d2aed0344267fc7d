"""What a job names, opened: the transport, the budget, the asker.

This is the only module in which the words of a job file choose an implementation.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from logprob_store.cache.answers import open_cache
from logprob_store.errors import JobError, StopRunError
from logprob_store.job import FromEnvironment
from logprob_store.pacing.pacer import Pacer
from logprob_store.replay.matching import ReplayTransport
from logprob_store.request import OPENAI_BASE_URL
from logprob_store.run.asker import Asker
from logprob_store.run.descriptors import room_for
from logprob_store.run.first_outcomes import FirstOutcomes
from logprob_store.run.spent import earlier_runs
from logprob_store.spending.opening import open_budget
from logprob_store.store.manifest import run_folder
from logprob_store.transport.lazy_live import lazy_live_transport
from logprob_store.transport.service_tier import send_by_tier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from logprob_store.batch.client import BatchClient
    from logprob_store.batch.folder import BatchFolder
    from logprob_store.cache.answers import AnswerCache
    from logprob_store.job import Job
    from logprob_store.run.batches import Batches
    from logprob_store.run.plan import Plan
    from logprob_store.spending.budget import Budget
    from logprob_store.store.commit import RunWriter
    from logprob_store.transport import Transport


@contextlib.asynccontextmanager
async def open_transport(
    job: Job, *, api_key: str | None = None, variables: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Transport]:
    """The transport that a job names, for as long as the context lasts.

    Args:
        job: names it.
        api_key: the key for the server; when None, the environment variable that the job names.
        variables: values of `job.header_variables`, instead of those in the environment.

    Raises:
        InputError: there is no key, or no usable fixtures.
    """
    if job.asks_server:
        key = key_of_environment(job) if api_key is None else api_key
        headers = headers_of(job, variables)
        async with lazy_live_transport(
            base_url=job.model.base_url,
            api_key=key,
            azure_api_version=job.model.azure_api_version,
            azure_deployment=job.model.deployment,
            concurrency=job.limits.concurrency,
            timeout_s=job.timeout_s,
            max_answer_bytes=job.limits.max_answer_bytes,
            headers=headers,
            query=job.model.query,
        ) as transport:
            tier, fallback_s = job.transport.tier, job.transport.flex_fallback_s
            yield transport if tier is None else send_by_tier(transport, tier, fallback_s=fallback_s)
    else:
        yield ReplayTransport(job.fixtures_path)


@contextlib.asynccontextmanager
async def open_batch_client(
    job: Job, *, api_key: str | None = None, variables: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[BatchClient | BatchFolder]:
    """What takes the batches of a job: its service, or a folder.

    Args:
        job: has `transport.kind = "batch"`.
        api_key: as for `open_transport`.
        variables: as for `open_transport`.

    Raises:
        InputError: the key cannot be used.
    """
    from logprob_store.batch.client import open_client
    from logprob_store.batch.folder import BatchFolder

    if job.batch_folder is not None:
        yield BatchFolder(job.batch_folder, file_mode=job.store.mode)
        return
    async with open_client(
        base_url=job.model.base_url,
        api_key=key_of_environment(job) if api_key is None else api_key,
        azure_api_version=job.model.azure_api_version,
        headers=headers_of(job, variables),
        query=job.model.query,
        file_mode=job.store.mode,
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def open_batches(
    plan: Plan,
    writer: RunWriter,
    cache: AnswerCache | None,
    budget: Budget,
    *,
    api_key: str | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    detach: bool = False,
    cancel: bool = False,
) -> AsyncIterator[Batches | None]:
    """The batches of a session, for as long as the context lasts; None for a job that makes calls one by one.

    Args:
        plan: the calls of the job.
        writer: of the run.
        cache: where answers are kept.
        budget: of the run.
        api_key: as for `open_transport`.
        variables: as for `open_transport`.
        detach: wait for no batch.
        cancel: begin none, and end those that are under way.

    Raises:
        InputError: the key or the journal of the run cannot be used.
    """
    job = plan.job
    if job.transport.kind != "batch" or cache is None:
        yield None
        return
    from logprob_store.batch.journal import Journal
    from logprob_store.run.batches import Batches

    manifest = writer.manifest
    async with open_batch_client(job, api_key=api_key, variables=variables) as client:
        yield Batches(
            plan,
            client,
            job.batch_service,
            Journal(run_folder(writer.store, writer.run), mode=job.store.mode),
            run_id=manifest.run_id,
            began_at=manifest.created_at,
            cache=cache,
            budget=budget,
            detach=detach,
            cancel=cancel,
        )


def with_server(error: StopRunError, job: Job) -> StopRunError:
    """The error that stopped a run, with the address of the server, if it is one of the server's."""
    if not job.asks_server or error.reason == "budget":
        return error
    said = f"{str(error).rstrip('.')}. The server: {job.model.base_url or OPENAI_BASE_URL}"
    named = StopRunError(said, reason=error.reason, status=error.status, said=error.said)
    named.response, named.maybe_billed = error.response, error.maybe_billed
    return named


def key_of_environment(job: Job) -> str:
    """The value of the variable that the job names; without one an empty text: no key is sent.

    Raises:
        JobError: the variable is not set.
    """
    if job.key_variable is None:
        return ""
    key = os.environ.get(job.key_variable)
    if not key:
        raise JobError(
            f"there is no API key: {job.key_variable} is not set. `export {job.key_variable}=...`, name another "
            "variable with model.api_key_env, or set model.base_url to a server that wants no key."
        )
    return key


def headers_of(job: Job, variables: Mapping[str, str]) -> dict[str, str]:
    """The headers that a job adds to each call, with the values of `job.header_variables`.

    Raises:
        JobError: a variable is not set, or its value cannot be sent.
    """
    found = {}
    for name, value in job.model.headers.items():
        text = value if isinstance(value, str) else variables.get(value.env, os.environ.get(value.env))
        if text is None:
            variable = value.env if isinstance(value, FromEnvironment) else ""
            raise JobError(f"model.headers.{name}: {variable} is not set. `export {variable}=...`")
        if not (text.isascii() and text.isprintable()):
            raise JobError(f"model.headers.{name}: its value holds a character that no header can hold")
        found[name] = text
    return found


@contextlib.asynccontextmanager
async def open_asker_alone(
    job: Job, transport: Transport, *, watch_first: bool = True, waits_at_once: bool = True
) -> AsyncIterator[Asker]:
    """An asker without a run: the job's ceilings hold for its calls alone, and in mode `refresh` it asks all anew.

    Raises:
        CacheError: the cache cannot be opened.
    """
    run_id = uuid.uuid4().hex
    with (
        open_cache(job.cache_folder, file_mode=job.store.mode) as cache,
        open_budget(
            job.ceilings,
            run_id=run_id,
            job_name=job.name,
            ledger_folder=job.ledger_folder,
            prices=job.token_prices,
            earlier=partial(earlier_runs, job),
            patience_s=job.timeout_s,
            sent_tier=job.transport.tier,
        ) as budget,
    ):
        async with open_asker(
            job,
            transport,
            cache,
            budget,
            run_id=run_id,
            watch_first=watch_first,
            waits_at_once=waits_at_once,
        ) as asker:
            yield asker


@contextlib.asynccontextmanager
async def open_asker(
    job: Job,
    transport: Transport,
    cache: AnswerCache | None,
    budget: Budget,
    *,
    run_id: str,
    resumed_from: datetime | None = None,
    on_wait: Callable[[], None] = lambda: None,
    watch_first: bool = True,
    waits_at_once: bool = True,
) -> AsyncIterator[Asker]:
    """An asker: the transport with the cache, the budget, and the pacing and retry that a job names.

    Args:
        job: names them.
        transport: makes one call.
        cache: where answers are kept.
        budget: lets calls begin.
        run_id: the id of the run.
        resumed_from: when the run began, if this is not its first session.
        on_wait: see `Asker`.
        watch_first: whether to stop if the first outcomes are all of no use; not for a run that has answers already.
        waits_at_once: as for `Pacer`; not where somebody waits for the one answer.
    """
    limits = job.limits
    # A replay opens no connection.
    room = room_for(limits.concurrency) if job.asks_server else contextlib.nullcontext(limits.concurrency)
    with room as concurrency:
        async with Asker(
            transport,
            pacer=Pacer(
                concurrency,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                patience_s=job.retry_for_s,
                reach_s=limits.reach_for_s,
                server=job.model.base_url or OPENAI_BASE_URL,
                waits_at_once=waits_at_once,
            ),
            cache=cache,
            run=run_id,
            refresh=job.cache.mode == "refresh",
            resumed_from=resumed_from,
            attempts=limits.attempts,
            retry_for_s=job.retry_for_s,
            budget=budget,
            on_wait=on_wait,
            first_outcomes=FirstOutcomes(watch=watch_first, scores=job.model.mode == "score"),
        ) as asker:
            yield asker
