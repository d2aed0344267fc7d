"""The calls of a run that batches at the service have: they are neither lost nor to be asked by another session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logprob_store.batch.journal import OVER, read_batches
from logprob_store.errors import StoreError
from logprob_store.store.manifest import find_manifest, run_folder, run_names

if TYPE_CHECKING:
    from logprob_store.job import Job
    from logprob_store.store.commit import RunWriter


def run_with_batches(job: Job) -> str | None:
    """The name of the newest run of a job that has batches under way; None without one."""
    store = job.store_folder
    found = []
    for run in run_names(store) if (store / "runs").is_dir() else ():
        if any(batch.state not in OVER for batch in read_batches(run_folder(store, run))):
            try:
                manifest = find_manifest(store, run)
            except StoreError:  # the run itself says what is wrong with it
                continue
            if manifest is not None and manifest.manifest.job_name == job.name:
                found.append((manifest.manifest.created_at, run))
    return max(found)[1] if found else None


def calls_under_way(writer: RunWriter, job: Job) -> set[int]:
    """The numbers, in the run's record of calls, of the calls that are in batches under way.

    Raises:
        StoreError: the job does not collect them: it asks live.
    """
    batches = [batch for batch in read_batches(run_folder(writer.store, writer.run)) if batch.state not in OVER]
    if batches and job.transport.kind != "batch":
        raise StoreError(
            f"run {writer.run} has {len(batches)} batches under way, which are paid for: collect them with "
            "`logprobs run --transport batch`, or end them with `logprobs batches STORE --job JOB.toml --cancel`"
        )
    return {number for batch in batches for number in range(batch.first_call, batch.first_call + batch.lines)}
