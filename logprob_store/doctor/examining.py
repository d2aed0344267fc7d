"""All checks of a job, in the order in which a run would come upon what is wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from logprob_store.doctor.batches import check_batches
from logprob_store.doctor.check import Check, failed
from logprob_store.doctor.machine import (
    check_cache,
    check_ceilings,
    check_open_files,
    check_prompts,
    check_store,
    needed_bytes,
)
from logprob_store.doctor.parameters import check_parameters
from logprob_store.doctor.scanner import check_scanner
from logprob_store.doctor.server import check_logprobs, check_server, smallest_request
from logprob_store.errors import CallError, InputError, StopRunError
from logprob_store.run.plan import check_plan, plan_job
from logprob_store.run.preflight import ModelCheck
from logprob_store.run.resources import open_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from logprob_store.job import Job
    from logprob_store.request import Request
    from logprob_store.run.plan import Chunk, Plan


def examine(job: Job, *, call: bool = True) -> Iterator[Check]:
    """Look at what a run of a job needs; each check is given as it is done.

    Nothing is written. A live server is asked for its models, and for a few tokens.

    Args:
        job: from `load_job`.
        call: whether to make the one call that may cost something.
    """
    plan: Plan | None = None
    first: Chunk | None = None
    try:
        plan = plan_job(job)
        check_plan(plan)
        first = next(plan.chunks(), None)
    except InputError as error:
        yield failed("prompts", error)
    else:
        yield check_prompts(plan, first)
    cache_bytes, store_bytes = (0, 0) if plan is None else needed_bytes(plan, first)
    request = first.requests[0] if first is not None and first.requests else None
    live = job.asks_server
    models = ModelCheck(job)
    if models.model is not None and request is not None:
        parameters = check_parameters(models, request)
        call = call and parameters.state != "fail"
        yield parameters
    by_batch = job.transport.kind == "batch"
    if job.batch_folder is None:
        # At Azure a deployment for batches takes no call.
        call = call and not (by_batch and job.model.azure_api_version is not None)
        yield from _in_turn(_check_live(job, request, models, call=call) if live else _check_replay(job, request))
    if by_batch:
        yield asyncio.run(check_batches(job, cache_bytes))
    if live:
        yield check_cache(job, cache_bytes)
    yield check_store(job, store_bytes, plan)
    yield check_scanner()
    if live:
        yield check_open_files(job)
        yield check_ceilings(job)


def _in_turn(checks: AsyncIterator[Check]) -> Iterator[Check]:
    with asyncio.Runner() as runner:
        while (check := runner.run(anext(checks, None))) is not None:
            yield check


async def _check_live(job: Job, request: Request | None, models: ModelCheck, *, call: bool) -> AsyncIterator[Check]:
    smallest = None
    if call and request is not None:
        may_reason = models.model is not None and models.model.takes.reasons != "never"
        smallest = smallest_request(request, openai=job.model.base_url is None, may_reason=may_reason)
    async for check in check_server(job, smallest):
        yield check


async def _check_replay(job: Job, request: Request | None) -> AsyncIterator[Check]:
    """Whether there are recordings, and one for the first prompt, with logprobs."""
    try:
        async with open_transport(job) as transport:
            answer = None if request is None else await transport(request)
    except (InputError, CallError, StopRunError) as error:
        yield failed("recordings", error)
        return
    yield Check("recordings", "ok", f"{job.fixtures_path} has an answer to the first prompt")
    if answer is not None and job.model.logprobs:
        yield check_logprobs(job, answer)
