"""`run_job`, the public way to run a job, and the summary that it returns.

What a run opens is in `opening`; what happens between is in `session`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from logprob_store.counted import counted, rows_in_words
from logprob_store.errors import JobError
from logprob_store.events import emit
from logprob_store.html_tables import html_table
from logprob_store.job import Job, load_job
from logprob_store.pacing.bottleneck import Bottleneck
from logprob_store.run.event_loop import run_to_end
from logprob_store.run.interrupts import stop_on_signals
from logprob_store.run.memory_settings import set_up_for_a_run
from logprob_store.run.naming import name_of_run
from logprob_store.run.opening import open_session
from logprob_store.run.plan import plan_job
from logprob_store.run.preflight import ModelCheck, refuse_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from logprob_store.run.buffer import Progress
    from logprob_store.run.session import Session
    from logprob_store.run.telemetry import Instrument


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class RunSummary:
    """What a session did, and how the run stands after it.

    `state` is `finished`, `waiting` for batches, `interrupted` or `stopped`; one that finished is a trial, `partial`,
    where it was to ask some of the prompts alone. `reason` says why it stopped, or that the server did not answer when
    it was interrupted. Of the `total` answers wanted, `already` were in the store before this session, `answered` came
    from the server, `shared` by the call of an equal prompt, `from_cache` and `from_fixtures` from there; `failed`
    failed now, and `not_reached` were not asked for. `batches` says how those under way are, and is empty without any;
    `unsent` counts the calls that are not in one at the service, as there was no room for them.
    `passed_over` counts the calls that `select` passes over, by the reason. `calls` counts the calls made in this
    session, retries too, and `failures` the calls of the run without an
    answer. `bound_by` says what took the time: the server's `limit`, the `server`, an `outage` or this `machine`;
    `verdict` has the seconds of each. `files` counts the files of prompts. `spent_usd`, `spent_requests` and
    `spent_tokens` are the run's, over all its sessions; `spent_usd` is None without prices, `spent_usd_by_tier` empty
    unless several service tiers served its calls.
    """

    run: str
    store: Path
    state: str
    reason: str | None
    total: int
    already: int
    calls: int
    from_cache: int
    from_fixtures: int
    failures: int
    completions: int
    tokens: int
    seconds: float
    bound_by: str = ""
    verdict: Bottleneck = field(default_factory=Bottleneck)
    spent_usd: float | None = None
    spent_requests: int = 0
    spent_tokens: int = 0
    spent_usd_by_tier: dict[str, float] = field(default_factory=dict)
    files: int = 0
    answered: int = 0
    shared: int = 0
    failed: int = 0
    not_reached: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    decisions: int = 0
    batches: str = ""
    unsent: int = 0
    partial: bool = False

    @property
    def shown_state(self) -> str:
        """The state, as `logprobs status` shows it: that of a trial is `trial`."""
        return "trial" if self.partial else self.state

    @property
    def rows_in_words(self) -> str:
        """What the run has rows of: completions with their tokens, or with the decisions that they are."""
        return rows_in_words(self.completions, self.tokens, self.decisions)

    def __repr__(self) -> str:
        """How the run stands, on one line."""
        reason = "" if self.reason is None else f": {self.reason}"
        return (
            f"<RunSummary {self.run} {self.shown_state}{reason}; {counted(self.total, 'answer')} wanted, "
            f"{self.rows_in_words}, "
            f"{self.failures} failed, in {str(self.store)!r}>"
        )

    def _repr_html_(self) -> str:
        """How the run stands, as a table."""
        spent = None if self.spent_usd is None else f"${self.spent_usd:,.4f}"
        rows = (
            ("state", self.shown_state + ("" if self.reason is None else f": {self.reason}")),
            ("answers wanted", self.total),
            ("in the store before", self.already),
            ("from the server", self.answered),
            ("from the cache", self.from_cache),
            ("from recordings", self.from_fixtures),
            ("failed", self.failed),
            ("not reached", self.not_reached),
            ("tokens", self.tokens),
            ("seconds", self.seconds),
            ("spent", spent),
            ("store", str(self.store)),
        )
        return html_table([row for row in rows if row[1] not in {0, None}], caption=f"Run {self.run}")

    def as_dict(self) -> dict[str, Any]:
        """The fields, as values that JSON has."""
        return {**dataclasses.asdict(self), "store": str(self.store)}


def run_job(
    job: Job | str | Path,
    *,
    run: str | None = None,
    new: bool = False,
    replace: bool = False,
    limit: int | None = None,
    api_key: str | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    on_progress: Callable[[Progress], None] | None = None,
    instrument: Instrument | None = None,
    detach: bool = False,
) -> RunSummary:
    """Run a job to its end, or go on with a run that was begun.

    Ctrl-C, SIGTERM or SIGHUP ends it early: calls under way get a few seconds, all answers are committed, and the
    summary says `interrupted`. A second one ends it at once, with KeyboardInterrupt. In a notebook, where an event loop
    is running, the run has a thread of its own.

    Args:
        job: from `load_job`, or the path of a job file.
        run: the run's name, `<job>-<date>` when None; the same name goes on with the same run.
        new: begin a run of its own, under the name or, if there is such a run, `<name>.2` and so on.
        replace: take the run of that name out and begin it anew; an error if it finished over all its prompts.
        limit: the number of prompts to run, from the first; all when None.
        api_key: the key for the server; when None, the environment variable that the job names (`job.key_variable`).
        variables: values of `job.header_variables`, instead of those in the environment.
        on_progress: called a few times a second.
        instrument: goes around each call, such as `ls.opentelemetry()`.
        detach: send batches and do not wait for them: the same call collects them later. For `transport.kind = "batch"`
            alone.

    Raises:
        InputError: the job, its prompts, its key, its fixtures or the store are wrong, or the model would refuse every
            call; nothing was asked.

    Example:
        >>> import logprob_store as ls
        >>> summary = ls.run_job("jobs/demo.toml")  # doctest: +SKIP
        >>> summary.state  # doctest: +SKIP
        'finished'
    """
    stop = asyncio.Event()
    loop: list[asyncio.AbstractEventLoop] = []

    async def session() -> RunSummary:
        loop.append(asyncio.get_running_loop())
        if threading.current_thread() is threading.main_thread():
            stop_on_signals(stop)
        return await run_job_async(
            job,
            run=run,
            new=new,
            replace=replace,
            limit=limit,
            api_key=api_key,
            variables=variables,
            on_progress=on_progress,
            instrument=instrument,
            stop=stop,
            detach=detach,
        )

    try:
        return run_to_end(session(), on_interrupt=lambda: loop[0].call_soon_threadsafe(stop.set))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def run_job_async(
    job: Job | str | Path,
    *,
    run: str | None = None,
    new: bool = False,
    replace: bool = False,
    limit: int | None = None,
    api_key: str | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    on_progress: Callable[[Progress], None] | None = None,
    instrument: Instrument | None = None,
    stop: asyncio.Event | None = None,
    detach: bool = False,
    cancel: bool = False,
) -> RunSummary:
    """Do what `run_job` does, inside a running event loop.

    Args:
        job: as for `run_job`.
        run: the run's name.
        new: as for `run_job`.
        replace: as for `run_job`.
        limit: the number of prompts to run, from the first; all when None.
        api_key: as for `run_job`.
        variables: as for `run_job`.
        on_progress: called a few times a second.
        instrument: goes around each call, such as `ls.opentelemetry()`.
        stop: set it to interrupt the run: calls under way get a few seconds to finish, then all answers are committed.
        detach: as for `run_job`.
        cancel: begin no batch, end those that are under way, and keep what they have.

    Raises:
        InputError: as `run_job`.
    """
    started = asyncio.get_running_loop().time()
    job = job if isinstance(job, Job) else load_job(job)
    if (detach or cancel) and job.transport.kind != "batch":
        raise JobError('only batches can be left to themselves or ended: set transport.kind = "batch"')
    plan = plan_job(job, limit=limit)
    name = name_of_run(job, run, new=new, replace=replace)
    models = ModelCheck(job)
    models.warn()
    await asyncio.to_thread(refuse_run, plan, name, models, anew=new or replace, replace=replace)
    async with open_session(
        plan,
        name,
        models=models,
        new=new,
        replace=replace,
        stop=stop or asyncio.Event(),
        api_key=api_key,
        variables=variables,
        on_progress=on_progress,
        instrument=instrument,
        detach=detach,
        cancel=cancel,
    ) as session:
        _log_start(session, prompts=plan.prompt_count)
        with set_up_for_a_run():
            await session.run()
        summary = _summary(session, asyncio.get_running_loop().time() - started)
        emit(log, "run_ended", "run %s: %s", summary.run, summary.shown_state, **summary.as_dict())
        return summary


def _log_start(session: Session, *, prompts: int) -> None:
    manifest, calls = session.writer.manifest, session.progress.total
    emit(
        log,
        "run_started",
        "run %s: %d of %d calls have an outcome",
        manifest.run,
        session.answered_before,
        calls,
        run=manifest.run,
        job=manifest.job_name,
        store=str(session.writer.store),
        prompts=prompts,
        calls=calls,
        already=session.answered_before,
    )


def _summary(session: Session, seconds: float) -> RunSummary:
    progress, manifest = session.progress, session.writer.manifest
    line = "" if session.batches is None else session.batches.line()
    return RunSummary(
        run=manifest.run,
        store=session.writer.store,
        state=manifest.state,
        reason=session.why,
        total=progress.total,
        already=session.answered_before,
        calls=progress.calls,
        from_cache=progress.from_cache,
        from_fixtures=progress.from_fixtures,
        failures=manifest.counts.failures,
        completions=manifest.counts.completions,
        tokens=manifest.counts.tokens,
        decisions=manifest.counts.decisions,
        seconds=seconds,
        bound_by="" if session.batches is not None else session.bottleneck.bound_by,
        verdict=session.bottleneck,
        spent_usd=manifest.spent.usd,
        spent_requests=manifest.spent.requests,
        spent_tokens=manifest.spent.tokens,
        spent_usd_by_tier=manifest.spent.usd_by_tier,
        files=len(manifest.inputs),
        answered=progress.answered - session.answered_before,
        shared=progress.shared,
        failed=progress.failed,
        not_reached=progress.total - progress.settled,
        unsent=0 if session.batches is None else session.batches.unsent(progress.total - progress.settled),
        passed_over=dict(manifest.passed),
        batches="" if session.batches is None else "; ".join(filter(None, (line, session.batches.trouble()))),
        partial=manifest.is_partial,
    )
