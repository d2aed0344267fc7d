"""The answers that a repair took out of a run: which of them the cache still has, and that no others take their place.

An answer that is asked today would stand among those of the old night, as if it were one of them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from logprob_store.cache.answers import open_cache
from logprob_store.errors import StoreError
from logprob_store.run.unanswered import passed_over_by
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import find_manifest
from logprob_store.store.opening import check_unchanged

if TYPE_CHECKING:
    from logprob_store.cache.answers import CachedAnswer
    from logprob_store.job import Job
    from logprob_store.run.plan import Plan
    from logprob_store.store.manifest import Manifest

log = logging.getLogger(__name__)


class LostAnswers(NamedTuple):
    """What a repair took out of a run: answers that the cache still `has`, and the calls of those that are `gone`.

    `is_all` says that a session would have nothing to do but to ask these anew.
    """

    has: int
    gone: IntervalSet
    is_all: bool = False


def refuse_other_answers(plan: Plan, run: str, *, anew: bool) -> None:
    """Say what of a repaired run's answers is gone; refuse the run if it could only ask these anew.

    Args:
        plan: the calls of the job.
        run: the run's name.
        anew: whether the run begins, whatever there is of that name.

    Raises:
        StoreError: nothing else is left to do; it says how many are gone, and what to do.
        RunChangedError: the run was made by another job or from other prompts.
    """
    found = None if anew else find_manifest(plan.job.store_folder, run)
    lost = None if found is None else lost_answers(plan, found.manifest)
    if found is None or lost is None or not lost.gone:
        return
    then = f"{found.manifest.created_at:%Y-%m-%d}"
    gone = (
        f"run {run!r} lost {lost.has + len(lost.gone)} answers to damage, and {len(lost.gone)} of them are no longer "
        f"in the cache: to ask these anew would put answers of today among those of {then}"
    )
    if not lost.is_all:
        log.warning("%s. The run goes on without them", gone)
        return
    raise StoreError(
        f"{gone}. Nothing was asked. Leave the run as it is, without them: all commands read what it has; begin "
        "another run with --new; or take this one out and ask all of it anew with --replace. --new --dry-run says what "
        "that would cost"
    )


def lost_answers(plan: Plan, manifest: Manifest) -> LostAnswers:
    """Which of a run's lost answers the cache still has; a replay asks none anew.

    Raises:
        RunChangedError: the run was made by another job or from other prompts.
    """
    lost = IntervalSet(manifest.lost).without(IntervalSet(manifest.settled))
    if not lost or plan.job.transport.kind == "replay":
        return LostAnswers(len(lost), IntervalSet())
    check_unchanged(manifest, plan.job.identity(), plan.stored_inputs, plan.rows, samples=plan.calls_per_prompt)
    has, gone, others = 0, IntervalSet(), manifest.counts.failures
    with open_cache(plan.job.cache_folder, file_mode=plan.job.store.mode) as cache:
        passed_over = passed_over_by(plan, manifest.run, manifest)
        for chunk in plan.chunks(settled=IntervalSet(manifest.settled), passed_over=passed_over):
            calls = {plan.number_of(request): request.key for request in chunk.requests}
            ours = {call: key for call, key in calls.items() if call in lost}
            others += len(calls) - len(ours) + len(chunk.bad)
            cached = {} if cache is None else cache.get_many(set(ours.values()))
            none = [call for call, key in ours.items() if not _is_of_then(cached.get(key), manifest, plan.job)]
            gone.update(none)
            has += len(ours) - len(none)
    return LostAnswers(has, gone, is_all=not (has or others) and manifest.prompts_read >= plan.prompt_count)


def _is_of_then(cached: CachedAnswer | None, manifest: Manifest, job: Job) -> bool:
    """Whether a cached answer may be the one that the run had: its own, or one that it found in the cache."""
    if cached is None or cached.meta.run == manifest.run_id:
        return cached is not None
    fetched_at = cached.meta.fetched_at
    return job.cache.mode == "reuse" and (fetched_at is None or fetched_at <= manifest.updated_at)
