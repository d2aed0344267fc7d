"""The calls of a run that batches at the service have: they are neither lost nor to be asked by another session."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from logprob_store.batch.journal import read_batches
from logprob_store.counted import counted
from logprob_store.errors import StoreError
from logprob_store.store.manifest import find_manifest, run_folder
from logprob_store.store.opening import check_unchanged
from logprob_store.store.run_folders import run_names

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.batch.journal import SentBatch
    from logprob_store.job import Job
    from logprob_store.run.plan import Plan
    from logprob_store.store.commit import RunWriter

log = logging.getLogger(__name__)


def open_batches(store: Path, run: str) -> list[SentBatch]:
    """The batches of a run that have steps left."""
    return [batch for batch in read_batches(run_folder(store, run)) if batch.is_open]


def run_with_batches(job: Job) -> str | None:
    """The name of the newest run of a job that has batches under way; None without one."""
    store = job.store_folder
    found = []
    for run in run_names(store) if (store / "runs").is_dir() else ():
        if open_batches(store, run):
            try:
                manifest = find_manifest(store, run)
            except StoreError:  # the run itself says what is wrong with it
                continue
            if manifest is not None and manifest.manifest.job_name == job.name:
                found.append((manifest.manifest.created_at, run))
    return max(found)[1] if found else None


def calls_under_way(writer: RunWriter) -> set[int]:
    """The numbers, in the run's record of calls, of the calls that are in batches under way."""
    batches = open_batches(writer.store, writer.run)
    return {number for batch in batches for number in (*batch.numbers, *batch.doubted_numbers)}


def refuse_removal(store: Path, run: str) -> None:
    """See that no batch of a run is under way that is to be taken out of a store.

    Raises:
        StoreError: some are; what they answer is billed, and nobody would collect it.
    """
    if batches := open_batches(store, run):
        raise StoreError(
            f"run {run} has {counted(len(batches), 'batch')} under way, which the service bills: collect them with "
            f"`logprobs run`, or end them with `logprobs batches {store} --run {run} --job JOB.toml --cancel`; then "
            "take the run out"
        )


def check_batches(plan: Plan, run: str) -> None:
    """See that a session collects the batches of a run that are under way, which are paid for.

    Says which other run of the job has some: what it asks is asked again by this one.

    Raises:
        StoreError: the job asks live, so that their calls would be paid for again.
        RunChangedError: the job is another one than that which sent them, though none of them has an answer yet.
    """
    store, job = plan.job.store_folder, plan.job
    batches, found = open_batches(store, run), find_manifest(store, run)
    has_more = not batches and (found is None or found.manifest.state != "finished")
    if has_more and (other := run_with_batches(job)) not in {None, run}:
        log.warning("run %s of this job has batches under way: what run %s asks too is paid for again", other, run)
    if found is None or not batches:
        return
    if job.transport.kind != "batch":
        raise StoreError(
            f"run {run} has {counted(len(batches), 'batch')} under way, which the service bills: collect them with "
            "`logprobs run --transport batch`, or end them with `logprobs batches STORE --run NAME --job JOB.toml "
            "--cancel`"
        )
    advice = "Collect its batches first, with the job as it was, or begin another run with --new"
    check_unchanged(
        found.manifest, job.identity(), plan.stored_inputs, plan.rows, samples=plan.calls_per_prompt, advice=advice
    )
