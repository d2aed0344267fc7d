"""What a run needs of this machine: its prompts, its cache and store, open files; and prices for its ceilings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.cache.answers import open_cache
from logprob_store.counted import counted
from logprob_store.doctor.check import Check, failed
from logprob_store.doctor.folders import check_folder
from logprob_store.errors import CacheError, DiskError, StoreError, StoreNotFoundError
from logprob_store.run.descriptors import raised_limit
from logprob_store.run.naming import default_run_name
from logprob_store.spending.request_tokens import most_output
from logprob_store.store.lock import is_being_written
from logprob_store.store.manifest import find_manifest
from logprob_store.store.opening import check_unchanged
from logprob_store.store.run_folders import check_place, run_names

if TYPE_CHECKING:
    from logprob_store.doctor.check import State
    from logprob_store.job import Job
    from logprob_store.run.plan import Chunk, Plan

_CACHE_BYTES: Final = (500, 15)
_STORE_BYTES: Final = (300, 8)
"""Bytes on the disk of an answer, and of each of its tokens and alternatives: about (docs/performance.md)."""
_LIKELY_TOKENS: Final = 256
"""Tokens of an answer where the job sets no maximum."""
_DATABASE: Final = "cache.db"


def check_prompts(plan: Plan, first: Chunk | None) -> Check:
    """What a job's prompts are: they were found, their columns fit, and no id repeats."""
    files = counted(len(plan.inputs), "file")
    said = f"{counted(plan.prompt_count, 'prompt')} in {files}, {counted(plan.call_count, 'call')}"
    if first is None:
        return Check("prompts", "fail", f"{said}: there is nothing to ask")
    if first.bad:
        none = not first.requests
        return Check(
            "prompts",
            "fail" if none else "warn",
            f"{said}; {len(first.bad)} of the first {counted(first.prompts_read, 'prompt')} cannot be asked, such as "
            f"{first.bad[0].prompt_id!r}: {first.bad[0].problem}",
        )
    names = ", ".join(dict.fromkeys(name for _, name in plan.columns.roles()))
    return Check("prompts", "ok", f"{said}; columns: {names or 'none'}")


def check_cache(job: Job, needed_bytes: int) -> Check:
    """Whether the cache can be opened and written, with room."""
    folder = job.cache_folder
    if folder is None:
        said = "a replay needs none" if job.transport.kind == "replay" else 'is off (cache.mode = "off")'
        return Check("cache", "ok", said)
    check = check_folder("cache", folder, needed_bytes=needed_bytes)
    if check.state == "fail" or not (folder / _DATABASE).exists():
        return check
    try:
        with open_cache(folder, file_mode=job.store.mode) as cache:
            held = 0 if cache is None else len(cache)
    except (CacheError, DiskError) as error:
        return failed("cache", error)
    return check._replace(said=f"{check.said}; it holds {counted(held, 'answer')}")


def check_store(job: Job, needed_bytes: int, plan: Plan | None) -> Check:
    """Whether the store can be read and written, with room, and today's run is this job's, with no writer yet."""
    folder = job.store_folder
    check = check_folder("store", folder, needed_bytes=needed_bytes)
    if check.state == "fail":
        return check
    run = default_run_name(job)
    try:
        check_place(folder)
        names = run_names(folder)
        found = find_manifest(folder, run)
        if found is not None and plan is not None:
            check_unchanged(
                found.manifest,
                job.identity(),
                plan.stored_inputs,
                plan.rows,
                samples=plan.calls_per_prompt,
            )
    except StoreNotFoundError:
        return check
    except StoreError as error:
        return failed("store", error)
    if run in names and is_being_written(folder, run):
        return Check("store", "warn", f"{folder}: the run {run} is being written by another process: wait for it")
    return check._replace(said=f"{check.said}; runs in it: {len(names)}")


def needed_bytes(plan: Plan, first: Chunk | None) -> tuple[int, int]:
    """About what a run adds to its cache and to its store, in bytes, by its first requests."""
    requests = [] if first is None else first.requests
    if not requests:
        return 0, 0
    tokens = 0
    for request in requests:
        most = most_output(request.body, request.endpoint)
        tokens += _LIKELY_TOKENS if most is None else most
        if plan.job.model.mode == "score":
            tokens += len(request.content) // 4
    rows = tokens / len(requests) * (1 + plan.job.model.top_logprobs)
    text = sum(len(request.content) for request in requests) / len(requests)
    cache, store = (plan.call_count * (fixed + rows * each) for fixed, each in (_CACHE_BYTES, _STORE_BYTES))
    return int(cache), int(store + plan.prompt_count * text)


def check_open_files(job: Job) -> Check:
    """Whether this process may open as many connections as the job allows."""
    with raised_limit(job.limits.concurrency) as limit:
        if limit.advice is not None:
            return Check("open files", "warn", limit.advice)
        return Check(
            "open files", "ok", f"{limit.allowed} may be open, for {counted(job.limits.concurrency, 'call')} at once"
        )


def check_ceilings(job: Job) -> Check:
    """What bounds the cost; a job with a ceiling in dollars and no prices does not load."""
    kept = [f"{whose} ceiling" for whose, most in job.ceilings.items() if most.any]
    if job.prices.prices is None and job.key_variable is not None and not kept:
        with_prices = " with [prices]" if job.token_prices is None else ""
        return Check(
            "ceilings",
            "warn",
            f"nothing bounds what a run may cost: set limits.max_requests, or limits.max_cost_usd{with_prices}",
        )
    costs = "no prices are set" if job.token_prices is None else "costs are counted at the job's prices"
    listed = job.listed_price if job.prices.prices is None else None
    if listed is not None and job.token_prices is not None:
        costs = f"costs are counted at the {listed.sentence()}"
    state: State = "warn" if listed is not None and listed.is_old() else "ok"
    return Check("ceilings", state, f"{' and '.join(kept) or 'none'}; {costs}")
