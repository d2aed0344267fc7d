"""What a run has spent, and what the earlier runs of its job have: from their manifests, call logs and the cache.

A call that was under way when its process died counts at its worst case, unless its answer reached the cache.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from logprob_store.cache.answers import open_cache
from logprob_store.errors import StoreError
from logprob_store.spending.settling import tokens_spent
from logprob_store.spending.shared_ledger import Amount, EarlierSpent, nano_usd
from logprob_store.store.call_log import CALL_LOG, OF_ANOTHER_RUN, UNKNOWN_SPENT, read_call_log
from logprob_store.store.manifest import find_manifest, run_folder
from logprob_store.store.run_folders import is_store, run_names
from logprob_store.store.verifying import check_call_log
from logprob_store.usage import Bill, Usage, usage_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from logprob_store.cache.answers import AnswerCache
    from logprob_store.job import Job
    from logprob_store.spending.prices import Prices
    from logprob_store.store.call_log import OpenCall
    from logprob_store.store.manifest import Manifest


log = logging.getLogger(__name__)


def spent_by_run(job: Job, store: Path, manifest: Manifest) -> tuple[int, Bill, Bill, EarlierSpent]:
    """The calls and tokens that a run has spent at most, the tokens of lost calls alone, and all with dollars.

    Calls of another process that are under way or were killed count at their worst, unless their answer is in the
    cache.
    """
    noted, prices = manifest.spent, job.token_prices
    path = run_folder(store, manifest.run) / CALL_LOG
    problem = check_call_log(store, manifest)
    if problem in UNKNOWN_SPENT:
        log.warning("%s %s: what the run spent is taken from its manifest, and may be more", path, problem)
    state = read_call_log(path.read_bytes() if path.exists() and problem != OF_ANOTHER_RUN else b"")
    answered = {}
    if state.open:
        with open_cache(job.cache_folder, file_mode=job.store.mode) as cache:
            answered = answered_calls(cache, manifest.run_id, prices, list(state.open.values()))
    requests = max(noted.requests, state.requests)

    def in_all(*open_calls: Usage) -> Bill:
        return state.spent.with_all(open_calls).at_least(noted.bill)

    def amount(bill: Bill) -> Amount:
        usd = noted.usd if prices is None else prices.usd(bill)
        return Amount(requests, bill.total, nano_usd(usd))

    most = in_all(*(answered.get(call.number, call.worst) for call in state.open.values()))
    earlier = EarlierSpent(
        amount(in_all(*answered.values())),
        amount(most),
        is_whole=state.has_totals and problem is None,
        nano_usd_a_token=0 if prices is None else nano_usd(prices.dearest_usd),
    )
    lost = state.reserved.with_all(call.worst for call in state.open.values() if call.number not in answered)
    return requests, most, lost, earlier


def earlier_runs(job: Job, *, but: str | None = None) -> dict[str, EarlierSpent]:
    """What the runs of a job in its store have spent, by run id; looked up for a ceiling of the job alone.

    Args:
        job: has the ceiling and the store.
        but: the name of a run to leave out.
    """
    store = job.store_folder
    if not job.limits.job_ceilings.any or not is_store(store):
        return {}
    spent = {}
    for run in run_names(store):
        try:
            found = find_manifest(store, run)
        except StoreError as error:
            log.warning("%s: what this run has spent counts only if the ledger of the job's runs has it", error)
            continue
        if found is not None and found.manifest.job_name == job.name and run != but:
            spent[found.manifest.run_id] = spent_by_run(job, store, found.manifest)[-1]
    return spent


def answered_calls(
    cache: AnswerCache | None, run_id: str, prices: Prices | None, calls: Sequence[OpenCall]
) -> dict[int, Usage]:
    """What those calls took whose answer is in the cache, by the call's number.

    Args:
        cache: where the run keeps its answers.
        run_id: the id of the run.
        prices: what tokens cost.
        calls: without an end in the run's log; of a process that died, or of another one that is at it.
    """
    cached = {} if cache is None else cache.get_many({call.key for call in calls})
    bodies = {
        call: cached[call.key].body
        for call in calls
        if call.key in cached and cached[call.key].was_bought_by(run_id, call.number)
    }
    return {
        # What it took was judged beside its request, which is not known here.
        call.number: call.worst
        if call.is_answered
        else tokens_spent(None, body, usage_of(body), call.worst, prices=prices)
        for call, body in bodies.items()
    }
