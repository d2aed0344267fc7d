"""One session of a run: makes the calls that have no outcome yet, and commits the outcomes.

    plan -> lookahead -> asker, a bounded number of calls at once -> buffer -> commit, in threads

The session bounds what is in memory, and stops early when it is told to or when no further call can succeed; what came
until then is committed. The run's transport, cache, store and budget are opened and closed in `opening`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError, DiskError, StopRunError
from logprob_store.events import emit, emit_prompt_failed
from logprob_store.pacing.bottleneck import Bottleneck
from logprob_store.request import OPENAI_BASE_URL
from logprob_store.run.asker import GRACE_S
from logprob_store.run.buffer import PartBuffer, Progress
from logprob_store.run.lookahead import look_up_ahead
from logprob_store.run.parts import Committer
from logprob_store.run.plan import check_plan
from logprob_store.run.remaining_calls import RemainingCalls
from logprob_store.run.resources import open_asker, with_server
from logprob_store.store.manifest import Spent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from logprob_store.cache.answers import AnswerCache
    from logprob_store.request import BadCall, Request
    from logprob_store.run.asker import Asker
    from logprob_store.run.batches import Batches
    from logprob_store.run.lookahead import LookedUp
    from logprob_store.run.plan import Chunk, Plan
    from logprob_store.run.preflight import ModelCheck
    from logprob_store.spending.budget import Budget
    from logprob_store.store.commit import RunWriter
    from logprob_store.transport import Transport

log = logging.getLogger(__name__)

_REPORT_EVERY_S: Final = 0.25


class Session:
    """One session of a run. Make it inside a running event loop, and call `run` once.

    For the caller to read: `answered_before` is the number of calls with an answer from earlier sessions; `progress`
    counts outcomes and calls; `stopped_by` is the error after which no further call is made, None without one; `outage`
    says that the server did not answer at the end, and why; `bottleneck` is what held calls back; `writer`, `budget`
    and `batches` are those of the run.

    Args:
        plan: the calls of the job.
        transport: makes one call.
        cache: where answers are kept.
        writer: of the run.
        budget: of the run.
        models: what is known of the models that it asks.
        batches: those of the session, if calls are made in batches.
        stop: set from outside to interrupt the session.
        on_progress: called a few times a second.
    """

    def __init__(
        self,
        plan: Plan,
        transport: Transport,
        cache: AnswerCache | None,
        writer: RunWriter,
        budget: Budget,
        *,
        models: ModelCheck,
        batches: Batches | None = None,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan = plan
        self.writer = writer
        self._transport = transport
        self._cache = cache
        self.budget = budget
        # Without parameters of rows all requests are alike, and the job as a whole was looked at.
        self.batches = batches
        self._refused_row = models.refused_row if plan.job.prompts.params is not None else None
        self._stop = stop
        self._on_progress = on_progress
        self._tasks: set[asyncio.Task[None]] = set()
        self._tasks_at_server: Collection[object] = ()
        self._trouble: Callable[[], str | None] = lambda: None
        # A call that waits to be tried again holds no slot of the pacer: twice as many tasks keep the server busy.
        self._task_limit = asyncio.Semaphore(2 * plan.job.limits.concurrency)
        self._tasks_without_place: set[asyncio.Task[None] | None] = set()
        self.stopped_by: StopRunError | None = None
        self._outage: str | None = None
        self.bottleneck = Bottleneck()
        self._error: BaseException | None = None
        self._reached_end = False
        self._remaining = RemainingCalls(plan, writer)
        self.answered_before = self._remaining.answered
        self.progress = Progress(total=plan.call_count, settled=self.answered_before)
        self._buffer = PartBuffer(
            Committer(writer, sync_spent=self._sync_spent),
            self.progress,
            part_bytes=plan.job.store.part_bytes,
            on_committed=budget.committed,
        )

    async def run(self) -> None:
        """Make all calls that have no outcome yet, unless the session stops early, and commit what came.

        Raises:
            PromptsError: the prompts cannot be read.
            StoreError: the rows of an earlier run cannot be read, which tell what to select.
            CacheError: the cache cannot be read.
            DiskError: the cache or the store cannot be written.
        """
        reporter = asyncio.create_task(self._report_regularly())
        try:
            chunks = await asyncio.to_thread(self._remaining.chunks, is_stopped=self._stop.is_set)
            self.progress.total = self._plan.call_count - self._remaining.passed
            if chunks is not None:
                await asyncio.to_thread(check_plan, self._plan)
                async with self._open_asker() as asker:
                    self.bottleneck, self._tasks_at_server = asker.bottleneck, asker.tasks_at_server
                    self._trouble = asker.trouble
                    try:
                        await self._fill_and_ask(chunks, asker)
                        if (
                            not self._stop.is_set()
                            and (reason := asker.reason_at_the_end) is not None
                            and self._plan.job.asks_server
                        ):
                            self._stop_early(reason)
                    finally:
                        self._update_call_count(asker)
                        self._note_outage(asker)
            self._reached_end = True
        except StopRunError as error:
            self.stopped_by = error
        finally:
            reporter.cancel()
            await self._end()
        if self._error is not None:
            raise self._error
        self._report()

    def _open_asker(self) -> contextlib.AbstractAsyncContextManager[Asker]:
        manifest = self.writer.manifest
        return open_asker(
            self._plan.job,
            self._transport,
            self._cache,
            self.budget,
            run_id=manifest.run_id,
            resumed_from=manifest.created_at if len(manifest.sessions) > 1 else None,
            on_wait=self._give_up_place,
            watch_first=not manifest.counts.completions,
        )

    def _give_up_place(self) -> None:
        """Let another task start while the current one waits for another process, which may be stopped for hours.

        It gets no place back: those who have one may wait for its answer. So there may be as many tasks more as other
        processes have calls under way.
        """
        self._tasks_without_place.add(asyncio.current_task())
        self._task_limit.release()

    async def _fill_and_ask(self, chunks: Iterator[Chunk], asker: Asker) -> None:
        """Ask all calls; where they go in batches, these fill the cache first, and calls find their answers there."""
        if self.batches is None:
            await self._ask_all(chunks, asker)
            return
        stopped: StopRunError | None = None
        try:
            await self.batches.fill_cache(
                self._remaining.chunks,
                asker.look_up,
                is_rejected=self._remaining.is_rejected,
                is_refused=lambda request: self._refused_row is not None and self._refused_row(request) is not None,
                has_row=self._remaining.has_failed,
                stop=self._stop,
            )
        except StopRunError as error:
            stopped = error
        if (rest := self._remaining.chunks()) is not None:
            await self._ask_all(rest, asker)
        if stopped is not None:
            raise stopped

    async def _ask_all(self, chunks: Iterator[Chunk], asker: Asker) -> None:
        canceller = asyncio.create_task(self._cancel_when_stopped(asker))
        try:
            async with contextlib.aclosing(look_up_ahead(chunks, asker.look_up)) as lookups:
                async for looked_up in lookups:
                    if self._stop.is_set():
                        break
                    await self._start_requests(looked_up, asker)
                else:
                    asker.mark_last_request()
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            canceller.cancel()
            await self._cancel_all()

    async def _cancel_all(self) -> None:
        """Cancel the calls that are left as an error or a second Ctrl-C ends the session, before connections close."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _start_requests(self, looked_up: LookedUp, asker: Asker) -> None:
        """Add the cached answers to the buffer, and start a task for each of the other requests."""
        if looked_up.chunk is not None:
            await self._add_prompts(looked_up.chunk)
        for request in looked_up.requests:
            if self._stop.is_set():
                return
            cached = looked_up.cached.get(request.key)
            if cached is None or self._remaining.is_rejected(cached, request):
                await self._start_or_refuse(request, asker)
            else:
                # Equal requests share a cached answer: each gets it under its own prompt.
                await self._buffer.add_answer(asker.answer_from_cache(cached, request))

    async def _add_prompts(self, chunk: Chunk) -> None:
        """Add the rows of a chunk's prompts, and a failure for each call that cannot be made."""
        self._buffer.add_prompts(chunk)
        for bad in chunk.bad:
            failure = _failure_of(bad)
            # A column of nulls may be intended: a line for each is shown with --verbose only.
            emit_prompt_failed(log, bad, failure, level=logging.INFO)
            await self._buffer.add_failure(bad, failure)

    async def _start_or_refuse(self, request: Request, asker: Asker) -> None:
        """Start a task for a request, unless its model would refuse its row's parameters, or a batch has asked it."""
        failure = None if self._refused_row is None else self._refused_row(request)
        may_ask = self.batches is None or self.batches.falls_back
        if failure is None and self.batches is not None and self.batches.has_ended:
            failure = self.batches.verdict(request)
        if failure is None:
            if may_ask:
                await self._start_task(request, asker)
        else:
            emit_prompt_failed(log, request, failure)
            await self._buffer.add_failure(request, failure)

    async def _start_task(self, request: Request, asker: Asker) -> None:
        """Start a task for a request once their number allows it; none if the session is to stop by then."""
        await self._task_limit.acquire()
        if self._stop.is_set():
            self._task_limit.release()
            return
        task = asyncio.create_task(self._ask(request, asker))
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task in self._tasks_without_place:
            self._tasks_without_place.discard(task)
        else:
            self._task_limit.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            # A full disk, a broken cache, a bug: stop, commit what came, then raise the first such error.
            self._error = self._error or error
            self._stop.set()

    async def _ask(self, request: Request, asker: Asker) -> None:
        """Take one request to its outcome, an answer or a failure, in the buffer."""
        started = datetime.now(UTC)
        try:
            answer = await asker.ask(request, anew=self._remaining.needs_new_answer(request))
        except StopRunError as error:
            self._stop_early(error)
        except CallError as error:
            emit_prompt_failed(log, request, error)
            await self._buffer.add_failure(request, error, first_at=started)
        except asyncio.CancelledError:
            if request.key in asker.lost_keys:
                failure = _interrupted()
                emit_prompt_failed(log, request, failure, level=logging.INFO)
                self._buffer.add_failure_now(request, failure, first_at=started)
            raise
        else:
            await self._buffer.add_answer(answer)
        if asker.first_outcomes.stop_reason is not None:
            self._stop_early(asker.first_outcomes.stop_reason)
        self._update_call_count(asker)

    def _stop_early(self, error: StopRunError) -> None:
        """Make no further call. The first reason is kept."""
        if self.stopped_by is None:
            self.stopped_by = error
            emit(log, "stopped", "stopping: %s", error, reason=error.reason, status=error.status)
        self.budget.close(error)
        self._stop.set()

    async def _cancel_when_stopped(self, asker: Asker) -> None:
        """Wait until the session is to stop; cancel the tasks without a call at once, the others after GRACE_S."""
        await self._stop.wait()
        for task in self._tasks - asker.tasks_at_server:
            task.cancel()
        if at_server := self._tasks & asker.tasks_at_server:
            calls, message = (
                len(at_server),
                "stopping: waiting up to %.0f s for %d calls under way; Ctrl-C ends at once",
            )
            emit(log, "stopping", message, GRACE_S, calls, in_flight=calls, grace_s=GRACE_S)
            await asyncio.wait(at_server, timeout=GRACE_S)
        for task in self._tasks:
            task.cancel()

    async def _end(self) -> None:
        """Commit what came, and write into the manifest how the session ended, however it ended."""
        try:
            await self._buffer.flush()
        except DiskError:
            self._reached_end = False
            raise
        finally:
            self._buffer.close()
            await asyncio.to_thread(self._finish_run)

    def _finish_run(self) -> None:
        self.writer.finish(
            self._state(),
            reason=None if self.stopped_by is None else self.stopped_by.reason,
            message=self.why or (None if self._error is None else str(self._error)),
            calls=self.progress.calls,
            verdict={name: round(seconds, 3) for name, seconds in dataclasses.asdict(self.bottleneck).items()},
            sync_spent=self._sync_spent,
        )

    def _state(self) -> str:
        if self.stopped_by is not None:
            return "stopped"
        if self._stop.is_set() or not self._reached_end:
            return "interrupted"
        if self.batches is not None and self.batches.cancels and self.progress.settled < self.progress.total:
            return "interrupted"
        return "waiting" if self.batches is not None and self.batches.left else "finished"

    def _sync_spent(self) -> Spent | None:
        """What the run has spent, once its record of calls is durable; None for a replay, which spends nothing."""
        if self.budget.calls is None:
            return None
        self.budget.calls.sync()
        self.budget.sync_shared()
        prices = self.budget.prices
        return Spent.of(
            self.budget.requests,
            self.budget.usage,
            lost=self.budget.lost,
            usd_of=None if prices is None else prices.usd,
            prices=None if prices is None else prices.as_dict(),
        )

    @property
    def why(self) -> str | None:
        """Why the session stopped, with the server's address, or that the server did not answer at the end."""
        if self.stopped_by is None:
            return self._outage
        return str(with_server(self.stopped_by, self._plan.job))

    def _note_outage(self, asker: Asker) -> None:
        if asker.outage is not None:
            server = self._plan.job.model.base_url or OPENAI_BASE_URL
            self._outage = f"the server at {server} did not answer: {asker.outage}"

    def _update_call_count(self, asker: Asker) -> None:
        # A replay calls no server.
        self.progress.calls = asker.calls if self._plan.job.asks_server else 0
        if self.batches is not None:
            self.progress.calls += self.batches.calls_begun
        self.progress.shared = asker.shared

    async def _report_regularly(self) -> None:
        while self._on_progress is not None:
            self._report()
            await asyncio.sleep(_REPORT_EVERY_S)

    def _report(self) -> None:
        if self._on_progress is not None:
            self.progress.in_flight = len(self._tasks_at_server)
            self.progress.spent_usd = self.budget.usd
            self.progress.batches = "" if self.batches is None else self.batches.line()
            of_batches = "" if self.batches is None else self.batches.trouble()
            self.progress.trouble = None if self._stop.is_set() else self._trouble() or of_batches or None
            self._on_progress(self.progress)


def _failure_of(bad: BadCall) -> CallError:
    error = CallError(str(bad.problem), error_type=bad.problem.error_type)
    error.attempts = 0
    return error


def _interrupted() -> CallError:
    """The failure of a call that was cancelled at the server."""
    return CallError("the run was stopped while the server was answering", error_type="interrupted", maybe_billed=True)
