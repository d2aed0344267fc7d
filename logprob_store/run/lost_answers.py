"""The answers that a repair took out of a run: which of them the cache still has, and that no others take their place.

An answer that is asked today would stand among those of the old night, as if it were one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logprob_store.cache.answers import open_cache
from logprob_store.errors import StoreError
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import find_manifest
from logprob_store.store.opening import check_unchanged

if TYPE_CHECKING:
    from logprob_store.cache.answers import CachedAnswer
    from logprob_store.job import Job
    from logprob_store.run.plan import Plan
    from logprob_store.store.manifest import Manifest


def refuse_other_answers(plan: Plan, run: str, *, anew: bool) -> None:
    """Refuse to go on with a repaired run whose lost answers are not all in the cache, before anything is asked.

    Args:
        plan: the calls of the job.
        run: the run's name.
        anew: whether the run begins, whatever there is of that name.

    Raises:
        StoreError: some are gone; it says how many, and what to do.
        RunChangedError: the run was made by another job or from other prompts.
    """
    found = None if anew else find_manifest(plan.job.store_folder, run)
    if found is None or not (open_calls := lost_calls(found.manifest)):
        return
    gone = gone_answers(plan, found.manifest)
    if gone:
        raise StoreError(
            f"run {run!r} lost {len(open_calls)} answers to damage, and {gone} of them are no longer in the cache: to "
            f"ask these anew would put answers of today among those of {found.manifest.created_at:%Y-%m-%d}. Nothing "
            "was asked. Leave the run as it is, without them: all commands read what it has; begin another run with "
            "--new; or take this one out and ask all of it anew with --replace. --dry-run says what --new would cost"
        )


def lost_calls(manifest: Manifest) -> IntervalSet:
    """The calls that a repair took out and that have no outcome since."""
    return IntervalSet(manifest.lost).without(IntervalSet(manifest.settled))


def gone_answers(plan: Plan, manifest: Manifest) -> int:
    """How many of a run's lost answers would have to be asked anew; a replay asks none.

    Raises:
        RunChangedError: the run was made by another job or from other prompts.
    """
    lost = lost_calls(manifest)
    if not lost or plan.job.transport.kind == "replay":
        return 0
    check_unchanged(manifest, plan.job.identity(), plan.stored_inputs, plan.rows, samples=plan.calls_per_prompt)
    gone = 0
    with open_cache(plan.job.cache_folder, file_mode=plan.job.store.mode) as cache:
        for chunk in plan.chunks(settled=IntervalSet(manifest.settled)):
            keys = [request.key for request in chunk.requests if plan.number_of(request) in lost]
            cached = {} if cache is None else cache.get_many(set(keys))
            gone += sum(key not in cached or not _is_of_then(cached[key], manifest, plan.job) for key in keys)
    return gone


def _is_of_then(cached: CachedAnswer, manifest: Manifest, job: Job) -> bool:
    """Whether a cached answer may be the one that the run had: its own, or one that it found in the cache."""
    if cached.meta.run == manifest.run_id:
        return True
    fetched_at = cached.meta.fetched_at
    return job.cache.mode == "reuse" and (fetched_at is None or fetched_at <= manifest.updated_at)
