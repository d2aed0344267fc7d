"""What a job would do and cost, without asking anything.

Holds the count of calls by what they would meet, and what those to ask would take in tokens, dollars and time. Leaves
out how that is said (`estimate`) and what the server does: calls that fail and are tried again come on top.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.failures import FAILURES
from logprob_store.replay.fixtures import Recordings
from logprob_store.run.api import default_run_name
from logprob_store.run.estimate import Estimate
from logprob_store.run.plan import check_plan, plan_job
from logprob_store.run.resources import open_cache
from logprob_store.schema import call_numbers
from logprob_store.spending.budget import Budget
from logprob_store.spending.request_tokens import choices, estimate_prompt_tokens, most_output, worst_case
from logprob_store.store.call_log import CALL_LOG, read_call_log
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.manifest import manifest_path, read_manifest, run_folder
from logprob_store.store.tables import open_tables
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.request import Request
    from logprob_store.run.plan import Plan
    from logprob_store.store.manifest import Manifest

_UNKNOWN: Final = -1
_ASKED: Final = pl.Schema(
    {
        "key": pl.UInt64(),
        "prompt": pl.Int64(),
        "prompt_most": pl.Int64(),
        "output_least": pl.Int64(),
        "output_most": pl.Int64(),
    }
)
"""40 bytes for each request that would be asked: a million of them are 40 MB."""


@dataclass(slots=True)
class _Counts:
    wanted: int = 0
    cached: int = 0
    bad: int = 0
    asked: list[pl.DataFrame] = field(default_factory=list)


def dry_run(job: Job, *, run: str | None = None, limit: int | None = None) -> Estimate:
    """Say what `run_job` with the same arguments would ask and what that would cost; nothing is asked or written.

    Raises:
        InputError: the job or its prompts are wrong.
    """
    plan = plan_job(job, limit=limit)
    check_plan(plan)
    store = job.resolve(job.store.path)
    name = default_run_name(job) if run is None else run
    path = manifest_path(store, name)
    manifest = read_manifest(path) if path.exists() else None
    counts = _count(plan, manifest, {} if manifest is None else _open_failures(store, manifest))
    asked = pl.concat([_ASKED.to_frame(), *counts.asked])
    # Without a cache equal requests are asked each; what has no recording is asked nowhere and costs nothing.
    live = job.transport.kind == "live"
    distinct = asked.unique("key") if live and job.cache.mode != "off" else asked
    return Estimate(
        plan.prompt_count,
        plan.call_count,
        plan.call_count - counts.wanted - counts.bad,
        counts.cached,
        counts.bad,
        distinct.height,
        shared=asked.height - distinct.height,
        files=len(plan.inputs),
        **(_amounts(job, distinct, _budget(job, store, manifest)) if live else {}),
    )


def _count(plan: Plan, manifest: Manifest | None, failed: dict[int, str]) -> _Counts:
    job, counts = plan.job, _Counts()
    settled = IntervalSet(manifest.settled if manifest is not None else ())
    with open_cache(job) as cache:
        known: Callable[[set[str]], Iterable[str]] = lambda _: ()  # noqa: E731
        if job.transport.kind == "replay" and job.transport.fixtures is not None:
            fixtures = Recordings(job.resolve(job.transport.fixtures))
            known = lambda keys: {key for key in keys if fixtures.get(key) is not None}  # noqa: E731
        elif cache is not None and job.cache.mode == "reuse":
            known = cache.get_many
        elif cache is not None and manifest is not None:
            own = manifest.run_id
            known = lambda keys: {key for key, kept in cache.get_many(keys).items() if kept.meta.run == own}  # noqa: E731
        for chunk in plan.chunks(settled=settled, again=failed):
            counts.bad += len(chunk.bad)
            counts.wanted += len(chunk.requests)
            anew = {request.key for request in chunk.requests if _asks_anew(failed.get(plan.number_of(request)))}
            had = known({request.key for request in chunk.requests} - anew)
            ask = [_row(request) for request in chunk.requests if request.key not in had]
            counts.cached += len(chunk.requests) - len(ask)
            counts.asked.append(pl.DataFrame(ask, schema=_ASKED, orient="row"))
    return counts


def _asks_anew(error_type: str | None) -> bool:
    return error_type is not None and FAILURES[error_type].ask_anew


def _row(request: Request) -> tuple[int, int, int, int, int]:
    most = most_output(request.body, request.endpoint)
    least = 0 if most == 0 else choices(request.body, request.endpoint)
    return (
        int(request.key[:16], 16),
        estimate_prompt_tokens(request),
        worst_case(request).prompt_tokens,
        least,
        _UNKNOWN if most is None else most,
    )


def _open_failures(store: Path, manifest: Manifest) -> dict[int, str]:
    """The calls that failed and would be asked again, by number, and how they failed."""
    rows = open_tables(store, runs=[manifest.run]).failures.collect()
    return dict(zip(call_numbers(rows, manifest.samples), rows["error_type"].to_list(), strict=True))


def _budget(job: Job, store: Path, manifest: Manifest | None) -> Budget:
    """What the run has spent so far; calls under way in another process or at a kill count at their worst."""
    budget = Budget(prices=job.prices.prices)
    if manifest is None:
        return budget
    noted = manifest.spent
    calls = run_folder(store, manifest.run) / CALL_LOG
    state = read_call_log(calls.read_bytes() if calls.exists() else b"")
    spent = sum((call.worst for call in state.open.values()), state.spent)
    budget.requests = max(noted.requests, state.requests)
    budget.usage = Usage(*map(max, spent, (noted.prompt_tokens, noted.cached_tokens, noted.completion_tokens)))
    return budget


def _amounts(job: Job, asked: pl.DataFrame, budget: Budget) -> dict[str, Any]:
    prompt, prompt_most, least, most = (int(asked[name].sum()) for name in _ASKED.names()[1:])
    bounded = not (asked["output_most"] == _UNKNOWN).any()
    limits, prices = job.limits, job.prices.prices
    low = Usage(prompt, 0, least)
    cost_usd = None
    if prices is not None:
        cost_usd = (prices.usd(low), prices.most_usd(Usage(), prompt_most, most) if bounded else None)
    waits = [
        60 * amount / a_minute
        for amount, a_minute in (
            (asked.height, limits.requests_per_minute),
            (prompt + (most if bounded else least), limits.tokens_per_minute),
        )
        if a_minute is not None
    ]
    return {
        "prompt_tokens": prompt,
        "output_tokens": (least, most if bounded else None),
        "cost_usd": cost_usd,
        "seconds": max(waits, default=None),
        "spent_requests": budget.requests,
        "spent_tokens": budget.usage.total,
        "spent_usd": budget.usd,
        "fits": _fits(job, budget, asked.height, low, (prompt_most, most)),
    }


def _fits(job: Job, budget: Budget, requests: int, low: Usage, high: tuple[int, int]) -> str | None:
    """Whether the rest stays under the ceilings; under those of tokens and dollars every call has a most."""
    ceilings, prices = job.limits.ceilings, job.prices.prices
    sums: list[tuple[float, float, float]] = []
    if ceilings.requests is not None:
        sums.append((budget.requests + requests, budget.requests + requests, ceilings.requests))
    if ceilings.tokens is not None:
        spent = budget.usage.total
        sums.append((spent + low.total, spent + sum(high), ceilings.tokens))
    if ceilings.usd is not None and prices is not None:
        sums.append((prices.usd(budget.usage + low), prices.most_usd(budget.usage, *high), ceilings.usd))
    if not sums:
        return None
    if all(most <= ceiling for _, most, ceiling in sums):
        return "yes"
    return "no" if any(least > ceiling for least, _, ceiling in sums) else "maybe"
