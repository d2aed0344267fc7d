"""A dry run: how many calls a job would make, and what they would take in tokens, dollars and time.

Nothing is asked and nothing written. Calls that fail and are tried again come on top.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.counted import counted
from logprob_store.prompts.input_files import types_of_text_tables
from logprob_store.run.lost_answers import LostAnswers, lost_answers
from logprob_store.run.naming import name_of_run
from logprob_store.run.plan import check_plan, plan_job
from logprob_store.run.preflight import ModelCheck
from logprob_store.run.selection import passed_over_sentence
from logprob_store.run.spent import earlier_runs, spent_by_run
from logprob_store.run.unanswered import manifest_as_it_goes_on, unanswered_calls
from logprob_store.spending.budget import Budget
from logprob_store.spending.request_tokens import choices, estimate_prompt_tokens, most_output, worst_case
from logprob_store.spending.shared_ledger import read_spent
from logprob_store.store.beginning import check_replaceable, free_names
from logprob_store.store.intervals import IntervalSet
from logprob_store.store.run_folders import check_place
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from logprob_store.job import Job
    from logprob_store.request import Request
    from logprob_store.run.plan import Plan
    from logprob_store.spending.ceilings import Ceilings
    from logprob_store.spending.shared_ledger import Amount
    from logprob_store.store.manifest import Manifest


_UNBOUNDED: Final = -1
"""Stands in `output_most` for a request that sets no maximum of output tokens."""

_TO_ASK: Final = pl.Schema(
    {
        "key": pl.UInt64(),
        "prompt": pl.Int64(),
        "prompt_most": pl.Int64(),
        "output_least": pl.Int64(),
        "output_most": pl.Int64(),
        "usd_least": pl.Float64(),
        "usd_most": pl.Float64(),
    }
)
"""One row per request that would be asked, 56 bytes each: a million requests are 56 MB."""

_TOGETHER: Final = {"job": "all runs of this job", "cache": "all runs on this cache"}

_FITS: Final = {
    "yes": "yes, even at its most",
    "maybe": "perhaps; if not, the run stops before it passes one and can be continued",
    "no": "no; the run will stop before it passes one and can be continued",
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The calls of a job by where their answers would come from, and what the calls to the server would take.

    `settled` are the calls with an answer in the run, `cached` those that the cache or fixtures answer, `shared` those
    that get the answer of an equal request, `bad` those that cannot be asked; `to_ask` is what would be paid for, if
    nothing has to be tried again.

    `prompt_tokens` is a quarter of the bytes, `prompt_tokens_most` one for each byte and more for images.
    `output_tokens` and `cost_usd` are the least and the most; the most is what ceilings reserve, None where a request
    sets no maximum. `seconds` is what the job's own limits per minute allow, None without such limits.
    `spent_requests`, `spent_tokens` and `spent_usd` are the run's so far; of these, `reserved_tokens` and
    `reserved_usd` are for calls that got no answer and may be billed. `spent_together` are those of all runs of the
    `job` and of all jobs on its `cache` that keep a ledger, where there is a ceiling on these. `fits` says whether the
    rest stays under the job's ceilings: `yes`, `maybe`, `no`, None without
    ceilings. `files` counts the files of the prompts; `columns` has the types found in CSV and JSON Lines.
    `passed_over` counts the calls that `select` passes over, by the reason; they are no part of `calls`. `prices` says
    where prices come from that are not the job's own, or that none are known; else it is None. `notice`
    says that the model shuts down soon, or has. `lost` counts the answers that a repair took out, `gone` those of them
    that are no longer in the cache and are not asked; `refused` says that the run would have nothing else to do.
    """

    prompts: int
    calls: int
    settled: int
    cached: int
    bad: int
    to_ask: int
    shared: int = 0
    prompt_tokens: int = 0
    output_tokens: tuple[int, int | None] = (0, 0)
    cost_usd: tuple[float, float | None] | None = None
    seconds: float | None = None
    spent_requests: int = 0
    spent_tokens: int = 0
    spent_usd: float | None = None
    spent_together: dict[str, dict[str, float]] = field(default_factory=dict)
    fits: str | None = None
    files: int = 1
    columns: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    prices: str | None = None
    notice: str | None = None
    lost: int = 0
    gone: int = 0
    refused: bool = False
    prompt_tokens_most: int = 0
    reserved_tokens: int = 0
    reserved_usd: float | None = None

    @property
    def sentence(self) -> str:
        """The estimate as one to eleven lines of text."""
        places = f" in {self.files} files" if self.files > 1 else ""
        first = (
            f"{counted(self.prompts, 'prompt')}{places}, {counted(self.calls, 'call')}: "
            f"{self.settled} already in the run, {self.cached} in the cache or fixtures, "
            f"{self.bad} cannot be asked, {self.to_ask} to ask"
        )
        if self.shared:
            first += f", {self.shared} equal to one of these"
        types = [f"columns found: {', '.join(map(' '.join, self.columns.items()))}"] if self.columns else []
        passed = [passed_over_sentence(self.passed_over)] if self.passed_over else []
        notice = [] if self.notice is None else [self.notice]
        lost = []
        if self.lost:
            have = self.lost - self.gone
            answers = counted(self.lost, "answer")
            lost = [f"the run lost {answers} to damage: the cache still has {have}, {self.gone} are gone"]
        if self.refused:
            lost.append("the run will be refused, so that no other answers take their place: --new asks beside it")
        elif self.gone:
            lost.append("the run goes on without these, so that no other answers take their place: --new asks them")
        return "\n".join([first, *lost, *passed, *types, *(self._amount_lines() if self.to_ask else []), *notice])

    @property
    def _spent_so_far(self) -> str:
        reserved_usd = self.reserved_usd or 0.0
        usd = "" if self.spent_usd is None else f", ${self.spent_usd - reserved_usd:,.4f}"
        tokens = self.spent_tokens - self.reserved_tokens
        said = f"spent so far: {_many(self.spent_requests, 'call')}, {_many(tokens, 'token')}{usd}"
        if self.reserved_tokens:
            usd = "" if self.spent_usd is None else f", ${reserved_usd:,.4f}"
            reserved = _many(self.reserved_tokens, "token")
            said += f"; reserved for calls that got no answer and may be billed: {reserved}{usd}"
        return said

    @property
    def _about_the_most(self) -> str:
        """How the most dollars come about."""
        return (
            f"at most: {counted(self.to_ask, 'call')}, each made once, with "
            f"{_many(self.prompt_tokens_most, 'token')} of "
            f"prompts (one for each byte sent, more for images) and {self.output_tokens[1]:,} of answers (the maximum "
            "of each), at the dearest prices that may apply; what is asked again comes on top"
        )

    def _amount_lines(self) -> list[str]:
        least, most = self.output_tokens
        upper_tokens = "an unknown number of" if most is None else f"{most:,}"
        lines = [
            f"about {_many(self.prompt_tokens, 'token')} of prompts, {least:,} to {upper_tokens} tokens of answers"
        ]
        if self.cost_usd is not None:
            least_usd, most_usd = self.cost_usd
            upper = "nobody knows: set a maximum of output tokens" if most_usd is None else f"${most_usd:,.4f} at most"
            lines.append(f"cost: ${least_usd:,.4f} to {upper}")
            if most_usd is not None:
                lines.append(self._about_the_most)
        if self.prices is not None:
            lines.append(self.prices)
        if self.seconds is not None:
            lines.append(f"time at the job's limits per minute: {_duration(self.seconds)}")
        if self.fits is not None:
            lines.append(f"under the job's ceilings: {_FITS[self.fits]} ({self._spent_so_far})")
        for whose, amount in self.spent_together.items():
            lines.append(
                f"spent by {_TOGETHER[whose]}: {_many(int(amount['requests']), 'call')}, "
                f"{_many(int(amount['tokens']), 'token')}, "
                f"${amount['usd']:,.4f}"
            )
        return lines


def _many(number: int, noun: str) -> str:
    return counted(number, noun, commas=True)


def dry_run(
    job: Job, *, run: str | None = None, new: bool = False, replace: bool = False, limit: int | None = None
) -> Estimate:
    """Say what `run_job` with the same arguments would ask and what that would cost; nothing is asked or written.

    Raises:
        InputError: the job or its prompts are wrong, or the model would refuse every call.
    """
    plan = plan_job(job, limit=limit)
    check_plan(plan)
    store = job.store_folder
    check_place(store)
    name = name_of_run(job, run, new=new, replace=replace)
    if replace:
        check_replaceable(store, name)
    name = next(free_names(store, name)) if new else name
    manifest = None if replace else manifest_as_it_goes_on(plan, name)
    models = ModelCheck(job)
    if models.is_suspect():
        models.refuse_hopeless(one for _, requests in unanswered_calls(plan, name, manifest) for one in requests)
    lost = LostAnswers(0, IntervalSet()) if manifest is None else lost_answers(plan, manifest)
    counts = _count_calls(plan, name, manifest, models, left_out=lost.gone)
    to_ask = pl.concat([_TO_ASK.to_frame(), *counts.to_ask])
    # Without a cache each of several equal requests is asked. A replay asks no server and costs nothing.
    live = job.asks_server
    distinct = to_ask.unique("key") if live and job.cache.mode != "off" else to_ask
    return Estimate(
        plan.prompt_count,
        calls := plan.call_count - sum(counts.passed.values()),
        calls - counts.unsettled - counts.bad - len(lost.gone),
        counts.cached,
        counts.bad,
        distinct.height,
        shared=to_ask.height - distinct.height,
        files=len(plan.inputs),
        passed_over=dict(counts.passed),
        columns=types_of_text_tables(plan.inputs),
        notice=models.notice(),
        lost=lost.has + len(lost.gone),
        gone=len(lost.gone),
        refused=lost.is_all and bool(lost.gone),
        **(_amounts(job, distinct, _spent_so_far(job, store, manifest)) if live else {}),
    )


@dataclass(slots=True)
class _Counts:
    """Numbers of calls; `unsettled` includes the cached ones."""

    unsettled: int = 0
    cached: int = 0
    bad: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    to_ask: list[pl.DataFrame] = field(default_factory=list)


def _count_calls(
    plan: Plan, run: str, manifest: Manifest | None, models: ModelCheck, *, left_out: IntervalSet
) -> _Counts:
    counts = _Counts(passed=Counter({} if manifest is None else manifest.passed))
    priced = Budget(prices=plan.job.token_prices, sent_tier=plan.job.transport.tier)
    priced.billed_as = "batch" if plan.job.transport.kind == "batch" else None
    refused_rows = plan.job.prompts.params is not None
    for chunk, unanswered in unanswered_calls(plan, run, manifest, left_out=left_out):
        asked = [one for one in unanswered if models.refusal(one) is None] if refused_rows else unanswered
        refused = len(unanswered) - len(asked)
        counts.passed += chunk.passed
        counts.bad += len(chunk.bad) + refused
        counts.unsettled += len(chunk.requests) - refused
        counts.cached += len(chunk.requests) - len(unanswered)
        counts.to_ask.append(pl.DataFrame([_row(one, priced) for one in asked], schema=_TO_ASK, orient="row"))
    return counts


def _row(request: Request, priced: Budget) -> tuple[int, int, int, int, int, float, float]:
    """A row of `_TO_ASK`, at the prices of a budget."""
    most = most_output(request.body, request.endpoint)
    least = 0 if most == 0 else choices(request.body, request.endpoint)
    prompt, worst = estimate_prompt_tokens(request), worst_case(request)
    return (
        int(request.key[:16], 16),
        prompt,
        worst.prompt_tokens,
        least,
        _UNBOUNDED if most is None else most,
        *priced.usd_of_call(request, Usage(prompt, 0, least), worst),
    )


def _spent_so_far(job: Job, store: Path, manifest: Manifest | None) -> Budget:
    """What the run has spent; calls of another process that are under way or were killed count at their worst."""
    budget = Budget(prices=job.token_prices)
    if manifest is not None:
        budget.requests, budget.usage, budget.lost, _ = spent_by_run(job, store, manifest)
    return budget


def _amounts(job: Job, to_ask: pl.DataFrame, budget: Budget) -> dict[str, Any]:
    """The fields of an `Estimate` from `prompt_tokens` on."""
    prompt, prompt_most, least, most = (int(to_ask[name].sum()) for name in _TO_ASK.names()[1:5])
    usd = float(to_ask["usd_least"].sum()), float(to_ask["usd_most"].sum())
    bounded = not (to_ask["output_most"] == _UNBOUNDED).any()
    limits, together = job.limits, _spent_together(job)
    cost_usd = None if job.token_prices is None else (usd[0], usd[1] if bounded else None)
    waits_s = [
        60 * amount / per_minute
        for amount, per_minute in (
            (to_ask.height, limits.requests_per_minute),
            (prompt + (most if bounded else least), limits.tokens_per_minute),
        )
        if per_minute is not None
    ]
    return {
        "prompt_tokens": prompt,
        "prompt_tokens_most": prompt_most,
        "output_tokens": (least, most if bounded else None),
        "cost_usd": cost_usd,
        "seconds": max(waits_s, default=None),
        "spent_requests": budget.requests,
        "spent_tokens": budget.usage.total,
        "spent_usd": budget.usd,
        "reserved_tokens": budget.lost.total,
        "reserved_usd": None if budget.prices is None else budget.prices.usd(budget.lost),
        "spent_together": {
            whose: {"requests": amount.requests, "tokens": amount.tokens, "usd": amount.usd}
            for whose, (_, amount) in together.items()
        },
        "fits": _fits(
            job, budget, to_ask.height, tokens=(prompt + least, prompt_most + most), usd=usd, together=together
        ),
        "prices": job.about_prices,
    }


def _spent_together(job: Job) -> dict[str, tuple[Ceilings, Amount]]:
    """The ceilings that several runs share, and what these have spent or have under way."""
    ceilings = {whose: most for whose, most in job.ceilings.items() if whose != "run" and most.any}
    if not ceilings:
        return {}
    spent = read_spent(job.ledger_folder, job.name, earlier_runs(job))
    return {whose: (most, spent[whose]) for whose, most in ceilings.items()}


def _fits(
    job: Job,
    budget: Budget,
    requests: int,
    *,
    tokens: tuple[int, int],
    usd: tuple[float, float],
    together: Mapping[str, tuple[Ceilings, Amount]],
) -> str | None:
    """Whether the rest stays under the ceilings; each call has a maximum where tokens or dollars have a ceiling.

    Args:
        job: has the ceilings.
        budget: what is spent.
        requests: calls to make.
        tokens: the least and the most tokens that they take.
        usd: the least and the most dollars.
        together: the ceilings that several runs share, and what these have spent.
    """
    sums: list[tuple[float, float, float]] = []  # least, most, ceiling
    for ceilings, spent in ((job.limits.ceilings, budget.amount), *together.values()):
        if ceilings.requests is not None:
            sums.append((spent.requests + requests, spent.requests + requests, ceilings.requests))
        if ceilings.tokens is not None:
            sums.append((spent.tokens + tokens[0], spent.tokens + tokens[1], ceilings.tokens))
        if ceilings.usd is not None:
            sums.append((spent.usd + usd[0], spent.usd + usd[1], ceilings.usd))
    if not sums:
        return None
    if all(most <= ceiling for _, most, ceiling in sums):
        return "yes"
    return "no" if any(least > ceiling for least, _, ceiling in sums) else "maybe"


def _duration(seconds: float) -> str:
    """Seconds in words.

    >>> _duration(42.4), _duration(150), _duration(7300)
    ('42 s', '2.5 min', '2.0 h')
    """
    if seconds < 120:  # noqa: PLR2004  two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
