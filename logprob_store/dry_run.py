"""What a job would do, without asking anything.

Holds the count of calls by what they would meet. Leaves out prices: they are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from logprob_store.fixtures import Recordings
from logprob_store.planning import check_plan, plan_job
from logprob_store.run import default_run_name
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import manifest_path, read_manifest
from logprob_store.wiring import open_cache

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logprob_store.job import Job


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many calls a run would meet where; `to_ask` is what would be paid for."""

    prompts: int
    calls: int
    settled: int
    cached: int
    bad: int
    to_ask: int


def dry_run(job: Job, *, run: str | None = None, limit: int | None = None) -> Estimate:
    """Count what `run_job` with the same arguments would ask; failures of an earlier session count as settled.

    Raises:
        InputError: the job or its prompts are wrong.
    """
    plan = plan_job(job, limit=limit)
    check_plan(plan)
    manifest = manifest_path(job.resolve(job.store.path), default_run_name(job) if run is None else run)
    settled = IntervalSet(read_manifest(manifest).settled if manifest.exists() else ())
    cached = bad = wanted = 0
    with open_cache(job) as cache:
        fixtures = None
        if job.transport.kind == "replay" and job.transport.fixtures is not None:
            fixtures = Recordings(job.resolve(job.transport.fixtures))
        for chunk in plan.chunks(settled=settled):
            bad += len(chunk.bad)
            keys = {request.key for request in chunk.requests}
            known: Iterable[str] = ()
            if fixtures is not None:
                known = {key for key in keys if fixtures.get(key) is not None}
            elif cache is not None and job.cache.mode == "reuse":
                known = cache.get_many(keys)
            wanted += len(chunk.requests)
            cached += sum(request.key in known for request in chunk.requests)
    return Estimate(plan.prompt_count, plan.call_count, plan.call_count - wanted - bad, cached, bad, wanted - cached)
