"""Opening a session of a run: its transport, cache, store, log of calls and budget, in this order."""

from __future__ import annotations

import contextlib
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from logprob_store.cache.answers import open_cache
from logprob_store.run.batches_under_way import calls_under_way
from logprob_store.run.resources import open_batches, open_transport
from logprob_store.run.session import Session
from logprob_store.run.spent import answered_calls, earlier_runs
from logprob_store.spending.opening import open_budget
from logprob_store.store.opening import open_calls, open_run

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping

    from logprob_store.run.buffer import Progress
    from logprob_store.run.plan import Plan
    from logprob_store.run.preflight import ModelCheck
    from logprob_store.run.telemetry import Instrument


@contextlib.asynccontextmanager
async def open_session(
    plan: Plan,
    run: str,
    *,
    models: ModelCheck,
    new: bool = False,
    replace: bool = False,
    stop: asyncio.Event,
    api_key: str | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    on_progress: Callable[[Progress], None] | None = None,
    instrument: Instrument | None = None,
    detach: bool = False,
    cancel: bool = False,
) -> AsyncIterator[Session]:
    """A session of a run, with all that it needs, for as long as the context lasts.

    Args:
        plan: the calls of the job.
        run: the run's name.
        models: what is known of the models that it asks.
        new: whether to begin another run, under the next free name.
        replace: whether to take the run of that name out and begin it anew.
        stop: set from outside to interrupt the session.
        api_key: as for `open_transport`.
        variables: as for `open_transport`.
        on_progress: called a few times a second.
        instrument: goes around each call.
        detach: wait for no batch.
        cancel: begin no batch, and end those that are under way.

    Raises:
        InputError: the key, the fixtures, the cache or the store cannot be used, or a ceiling cannot be kept.
        DiskError: there is no room to begin.
    """
    job = plan.job
    # The transport is opened first, so that a missing key or missing fixtures leave no empty run in the store.
    async with open_transport(job, api_key=api_key, variables=variables) as transport:
        ask = transport if instrument is None else instrument(transport, job)
        with (
            open_cache(job.cache_folder, file_mode=job.store.mode) as cache,
            open_run(
                job.store_folder,
                run,
                job_name=job.name,
                job=job.identity(),
                inputs=plan.stored_inputs,
                samples=plan.calls_per_prompt,
                rows=plan.rows,
                new=new,
                replace=replace,
                file_mode=job.store.mode,
            ) as writer,
            open_calls(
                writer,
                find=partial(answered_calls, cache, writer.manifest.run_id, job.token_prices),
                gone=set if cache is None else cache.missing,
                under_way=calls_under_way(writer),
                spent_must_be_known=any(most.any for most in job.ceilings.values()),
            )
            if job.asks_server
            else contextlib.nullcontext() as calls,
            open_budget(
                job.ceilings,
                run_id=writer.manifest.run_id,
                job_name=job.name,
                ledger_folder=job.ledger_folder,
                prices=job.token_prices,
                calls=calls,
                earlier=partial(earlier_runs, job, but=writer.run),
                patience_s=job.timeout_s,
                sent_tier=job.transport.tier,
            ) as budget,
        ):
            async with open_batches(
                plan, writer, cache, budget, api_key=api_key, variables=variables, detach=detach, cancel=cancel
            ) as batches:
                yield Session(
                    plan,
                    ask,
                    cache,
                    writer,
                    budget,
                    models=models,
                    batches=batches,
                    stop=stop,
                    on_progress=on_progress,
                )
