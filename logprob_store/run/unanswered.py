"""The calls that a run would make: those of its plan without what the cache or fixtures answer. Nothing is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logprob_store.cache.answers import open_cache
from logprob_store.errors import RunChangedError
from logprob_store.failure_policy import asks_anew
from logprob_store.replay.fixtures import Recordings
from logprob_store.run.selection import earlier_manifests, select_calls
from logprob_store.schema import call_numbers
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import find_manifest
from logprob_store.store.opening import as_it_goes_on
from logprob_store.store.tables import open_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from logprob_store.cache.answers import AnswerCache
    from logprob_store.job import Job
    from logprob_store.request import Request
    from logprob_store.run.plan import Chunk, PassedOver, Plan
    from logprob_store.store.manifest import Manifest

    AnsweredKeys = Callable[[set[str]], Collection[str]]


def unanswered_calls(
    plan: Plan, run: str, manifest: Manifest | None, *, left_out: IntervalSet | None = None
) -> Iterator[tuple[Chunk, list[Request]]]:
    """The chunks of a plan that a run would take, each with the requests that would be sent.

    Args:
        plan: the calls of the job.
        run: the run's name.
        manifest: the run's, where it was begun.
        left_out: calls that the run makes as little as settled ones.
    """
    failed = {} if manifest is None else _open_failures(plan.job.store_folder, manifest)
    settled = IntervalSet(manifest.settled if manifest is not None else ())
    settled.update_intervals(left_out.intervals if left_out is not None else ())
    passed_over = passed_over_by(plan, run, manifest)
    with open_cache(plan.job.cache_folder, file_mode=plan.job.store.mode) as cache:
        answered_keys = _answered_keys(plan.job, cache, manifest)
        for chunk in plan.chunks(settled=settled, again=failed, passed_over=passed_over):
            rejected = {request.key for request in chunk.requests if asks_anew(failed.get(plan.number_of(request)))}
            answered = answered_keys({request.key for request in chunk.requests} - rejected)
            yield chunk, [request for request in chunk.requests if request.key not in answered]


def unanswered_requests(job: Job, requests: Sequence[Request]) -> list[Request]:
    """Those of a job's requests that neither its cache nor its fixtures answer."""
    with open_cache(job.cache_folder, file_mode=job.store.mode) as cache:
        answered = _answered_keys(job, cache, None)({request.key for request in requests})
    return [request for request in requests if request.key not in answered]


def manifest_as_it_goes_on(plan: Plan, run: str) -> Manifest | None:
    """The manifest of a run as a session of the plan would go on with it; None where there is none.

    Of a run that was made by another job it is the one that is there: the session is refused.
    """
    job = plan.job
    found = find_manifest(job.store_folder, run)
    if found is None:
        return None
    try:
        return as_it_goes_on(found, job.identity(), plan.stored_inputs, plan.rows, samples=plan.calls_per_prompt)
    except RunChangedError:
        return found.manifest


def passed_over_by(plan: Plan, run: str, manifest: Manifest | None) -> PassedOver | None:
    """Why the job's `select` passes an unsettled call of a run over; None where it passes none over.

    Args:
        plan: the calls of the job.
        run: the run's name.
        manifest: the run's, where it was begun.
    """
    if plan.job.prompts.select == "all":
        return None
    earlier = earlier_manifests(plan.job.store_folder, run, before=None if manifest is None else manifest.created_at)
    unsettled = plan.chunks(settled=IntervalSet(manifest.settled if manifest is not None else ()))
    return select_calls(plan, unsettled, earlier).passed_over


def _answered_keys(job: Job, cache: AnswerCache | None, manifest: Manifest | None) -> AnsweredKeys:
    """A function that picks, of some request keys, those that the run would find an answer to without a call."""
    if job.transport.kind == "replay":
        fixtures = Recordings(job.fixtures_path)
        return lambda keys: {key for key in keys if fixtures.get(key) is not None}
    if cache is not None and job.cache.mode == "reuse":
        return cache.get_many
    if cache is not None and manifest is not None:  # mode `refresh`: the run's own answers alone
        run_id = manifest.run_id
        return lambda keys: {key for key, cached in cache.get_many(keys).items() if cached.meta.run == run_id}
    return lambda _: ()


def _open_failures(store: Path, manifest: Manifest) -> dict[int, str]:
    """The error type of each call that failed and would be asked again, by the call's number."""
    rows = open_tables(store, runs=[manifest.run]).failures.collect()
    return dict(zip(call_numbers(rows, manifest.samples), rows["error_type"].to_list(), strict=True))
