"""The resources that a job names, opened: transport, cache, budget, asker.

This is the only module in which the words of a job file choose an implementation.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import DiskError, JobError, StoreError
from logprob_store.pacing.pacer import Pacer
from logprob_store.replay.fixtures import Recordings
from logprob_store.replay.matching import replay_transport
from logprob_store.run.asker import Asker
from logprob_store.run.descriptors import room_for
from logprob_store.run.first_outcomes import FirstOutcomes
from logprob_store.spending.budget import Budget
from logprob_store.spending.settling import tokens_spent
from logprob_store.spending.shared_ledger import Amount, EarlierSpent, nano_usd, open_shared_ledger
from logprob_store.store.call_log import CALL_LOG, OF_ANOTHER_RUN, UNKNOWN_SPENT, open_call_log, read_call_log
from logprob_store.store.manifest import find_manifest, run_folder, run_names
from logprob_store.store.verifying import check_call_log
from logprob_store.transport.lazy_live import lazy_live_transport
from logprob_store.usage import Usage, usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.store.call_log import CallLog, OpenCall
    from logprob_store.store.commit import RunWriter
    from logprob_store.store.manifest import Manifest
    from logprob_store.transport import Transport


log = logging.getLogger(__name__)


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
    with AnswerCache(job.resolve(job.cache.path), file_mode=job.store.mode) as cache:
        yield cache


@contextlib.contextmanager
def open_budget(job: Job, writer: RunWriter) -> Iterator[Budget]:
    """The budget of a run, with the record of calls beside the manifest. A replay spends nothing and has no record.

    Raises:
        CacheError: the ledger that several runs share cannot be used.
        DiskError: the record of calls cannot be written.
    """
    if job.transport.kind == "replay":
        yield Budget(prices=job.prices.prices)
        return
    earlier = earlier_runs(job, writer.store, but=writer.run)
    with (
        contextlib.closing(_open_calls(job, writer)) as calls,
        _budget_of(job, writer.manifest.run_id, calls=calls, earlier=earlier) as budget,
    ):
        yield budget


@contextlib.contextmanager
def _budget_of(
    job: Job, run: str, *, calls: CallLog | None = None, earlier: Mapping[str, EarlierSpent] = MappingProxyType({})
) -> Iterator[Budget]:
    """A budget with the job's ceilings; if runs share some, with their ledger in the cache folder.

    Args:
        job: names them.
        run: the id of the run.
        calls: its record of calls.
        earlier: what other runs of the job have spent, by run id.
    """
    limits = job.limits
    ceilings = {"job": limits.job_ceilings, "cache": limits.cache_ceilings}
    with contextlib.ExitStack() as opened:
        shared = None
        if any(most.any for most in ceilings.values()):
            folder = job.resolve(job.cache.path)
            shared = open_shared_ledger(folder, run=run, job=job.name, ceilings=ceilings)
            opened.callback(shared.close)
        budget = Budget(
            limits.ceilings,
            prices=job.prices.prices,
            calls=calls,
            shared=shared,
            one_first=limits.need_bounds,
            patience_s=limits.timeout_s,
        )
        if shared is not None:
            shared.begin(budget.amount, earlier)
        yield budget


def spent_by_run(job: Job, store: Path, manifest: Manifest) -> tuple[int, Usage, EarlierSpent]:
    """The calls and tokens that a run has spent at most, and both with dollars at the job's prices.

    Calls of another process that are under way or were killed count at their worst, unless their answer is in the
    cache.
    """
    noted, prices = manifest.spent, job.prices.prices
    path = run_folder(store, manifest.run) / CALL_LOG
    problem = check_call_log(store, manifest)
    if problem in UNKNOWN_SPENT:
        log.warning("%s %s: what the run spent is taken from its manifest, and may be more", path, problem)
    state = read_call_log(path.read_bytes() if path.exists() and problem != OF_ANOTHER_RUN else b"")
    answered = _answered(job, manifest.run_id, list(state.open.values())) if state.open else {}
    requests = max(noted.requests, state.requests)

    def in_all(*open_calls: Usage) -> Usage:
        spent = sum(open_calls, state.spent)
        return Usage(*map(max, spent, (noted.prompt_tokens, noted.cached_tokens, noted.completion_tokens)))

    def amount(usage: Usage) -> Amount:
        usd = noted.usd if prices is None else prices.usd(usage)
        return Amount(requests, usage.total, nano_usd(usd))

    most = in_all(*(answered.get(call.number, call.worst) for call in state.open.values()))
    earlier = EarlierSpent(
        amount(in_all(*answered.values())),
        amount(most),
        is_whole=state.has_totals and problem is None,
        nano_usd_a_token=0 if prices is None else nano_usd(prices.dearest_usd),
    )
    return requests, most, earlier


def earlier_runs(job: Job, store: Path, *, but: str | None = None) -> dict[str, EarlierSpent]:
    """What the runs of a job in its store have spent, by run id; looked up for a ceiling of the job alone.

    Args:
        job: has the ceiling.
        store: the job's store.
        but: the name of a run to leave out.
    """
    if not job.limits.job_ceilings.any or not (store / "runs").is_dir():
        return {}
    spent = {}
    for run in run_names(store):
        try:
            found = find_manifest(store, run)
        except StoreError as error:
            log.warning("%s: what this run has spent counts only if the ledger of the job's runs has it", error)
            continue
        if found is not None and found.manifest.job_name == job.name and run != but:
            spent[found.manifest.run_id] = spent_by_run(job, store, found.manifest)[2]
    return spent


def _open_calls(job: Job, writer: RunWriter) -> CallLog:
    manifest, path = writer.manifest, run_folder(writer.store, writer.run) / CALL_LOG
    _check_known(job, path, check_call_log(writer.store, manifest))
    before = manifest.spent
    calls = open_call_log(
        path,
        find=lambda calls: _answered(job, manifest.run_id, calls),
        gone=lambda keys: _gone(job, keys - writer.committed_keys()),
        mode=job.store.mode,
        least=(before.requests, Usage(before.prompt_tokens, before.cached_tokens, before.completion_tokens)),
        run_id=manifest.run_id,
    )
    try:
        writer.note_call_log()
    except DiskError:
        calls.close()
        raise
    return calls


def _check_known(job: Job, path: Path, problem: str | None) -> None:
    """See that it is known what a run has spent, where a ceiling needs it; a few damaged records cause a warning only.

    Raises:
        StoreError: it is not known; or the log of calls is that of another run, which must not be written over.
    """
    limits = job.limits
    has_ceiling = limits.ceilings.any or limits.job_ceilings.any or limits.cache_ceilings.any
    if problem in UNKNOWN_SPENT and (has_ceiling or problem == OF_ANOTHER_RUN):
        raise StoreError(
            f"{path} {problem}, so that what this run has spent is not known, and no ceiling on it can be kept. Put "
            f"the file back; or `logprobs verify {path.parents[2]} --repair` begins a new one with what the manifest "
            "says was spent, which lacks the calls since the last part"
        )
    if problem in UNKNOWN_SPENT:
        log.warning("%s %s: what the run spent is taken from its manifest", path, problem)


def _gone(job: Job, keys: set[str]) -> set[str]:
    """Those of the keys that have no readable answer in the cache."""
    with open_cache(job) as cache:
        return keys if cache is None else keys - cache.get_many(keys).keys()


def _answered(job: Job, run: str, calls: Sequence[OpenCall]) -> dict[int, Usage]:
    """What those calls took whose answer is in the cache, by the call's number.

    Args:
        job: names the cache.
        run: the id of the run.
        calls: without an end in the run's record; of a process that died, or of another one that is at it.
    """
    with open_cache(job) as cache:
        cached = {} if cache is None else cache.get_many({call.key for call in calls})
    bodies = {
        call: cached[call.key].body
        for call in calls
        if call.key in cached and cached[call.key].was_bought_by(run, call.number)
    }
    return {
        call.number: tokens_spent(None, body, usage_of(body), call.worst, prices=job.prices.prices)
        for call, body in bodies.items()
    }


@contextlib.asynccontextmanager
async def open_asker(
    job: Job,
    transport: Transport,
    *,
    run: str | None = None,
    resumed_from: datetime | None = None,
    budget: Budget | None = None,
    on_wait: Callable[[], None] = lambda: None,
    watch_first: bool = True,
) -> AsyncIterator[Asker]:
    """An asker: the transport with the cache, pacing and retry that a job names.

    Args:
        job: names them.
        transport: makes one call.
        run: the id of the run.
        resumed_from: when the run began, if this is not its first session.
        budget: of the run; without one, the job's ceilings hold for the calls of this asker alone.
        on_wait: see `Asker`.
        watch_first: whether to stop if the first outcomes are all of no use; not for a run that has answers already.

    Raises:
        CacheError: the cache cannot be opened.
    """
    limits = job.limits
    opened = _budget_of(job, run or uuid.uuid4().hex) if budget is None else contextlib.nullcontext(budget)
    # A replay opens no connection.
    room = room_for(limits.concurrency) if job.transport.kind == "live" else contextlib.nullcontext(limits.concurrency)
    with opened as kept_budget, open_cache(job) as cache, room as concurrency:
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
            budget=kept_budget,
            on_wait=on_wait,
            first_outcomes=FirstOutcomes(watch=watch_first, scores=job.model.mode == "score"),
        ) as asker:
            yield asker
