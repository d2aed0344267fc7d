"""One session of a run: from requests to committed rows, and the reason to stop early if there is one.

    plan -> lookahead -> asker, a bounded number of calls at once -> buffer -> commit, in threads

The session bounds what is in memory, stops when it is told to, and keeps what it has. `run.api` opens and closes what
it works with.
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
from logprob_store.failures import FAILURES
from logprob_store.pacing.bottleneck import Bottleneck
from logprob_store.run.asker import GRACE_S
from logprob_store.run.buffer import PartBuffer, Progress
from logprob_store.run.commit import Committer
from logprob_store.run.lookahead import look_up_ahead
from logprob_store.run.plan import check_plan
from logprob_store.run.resources import open_asker
from logprob_store.schema import call_number, call_of_number
from logprob_store.store.manifest import Spent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from logprob_store.cache.answers import CachedAnswer
    from logprob_store.request import Answer, BadCall, Request
    from logprob_store.run.asker import Asker
    from logprob_store.run.lookahead import LookedUp
    from logprob_store.run.plan import Chunk, Plan
    from logprob_store.spending.budget import Budget
    from logprob_store.store.writing import RunWriter
    from logprob_store.transport import Transport

log = logging.getLogger(__name__)

_REPORT_EVERY_S: Final = 0.25


class Session:
    """One session of a run: the calls under way, and the reason to stop early if there is one.

    Args:
        plan: what is to be asked.
        writer: of the run.
        budget: of the run.
        stop: set from outside to interrupt the session.
        on_progress: called a few times a second.
    """

    def __init__(
        self,
        plan: Plan,
        writer: RunWriter,
        budget: Budget,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan = plan
        self.writer = writer
        self._budget = budget
        self._stop = stop
        self._on_progress = on_progress
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_server: Collection[object] = ()  # the asker's tasks with a call at the server
        self.stopped_by: StopRunError | None = None
        self.bottleneck = Bottleneck()
        self._broken: BaseException | None = None
        self._reached_end = False
        self._again = dict(writer.open_failures)
        settled = len(writer.settled) - writer.manifest.absent
        self.already = min(settled - len(self._again), plan.call_count)
        self.progress = Progress(total=plan.call_count, settled=self.already)
        self._buffer = PartBuffer(
            Committer(writer, spent=self._spent),
            writer.manifest,
            self.progress,
            part_bytes=plan.job.store.part_bytes,
            on_durable=budget.durable,
        )

    async def pump(self, transport: Transport) -> None:
        """Ask every call that has no outcome yet, until all have one or the session is to stop; commit what came."""
        writer, plan = self.writer, self._plan
        chunks = self._chunks()
        reporter = asyncio.create_task(self._report())
        try:
            if chunks is not None:
                await asyncio.to_thread(check_plan, plan)
                manifest = writer.manifest
                async with open_asker(
                    plan.job,
                    transport,
                    run=manifest.run_id,
                    resumed_from=manifest.created_at if len(manifest.sessions) > 1 else None,
                    budget=self._budget,
                ) as asker:
                    self.bottleneck, self._at_server = asker.bottleneck, asker.busy
                    await self._ask_all(chunks, asker)
                    self._count_calls(asker)
            self._reached_end = True
        except StopRunError as error:
            self.stopped_by = error
        finally:
            reporter.cancel()
            await self._end()
        if self._broken is not None:
            raise self._broken
        self._say_progress()

    async def _end(self) -> None:
        """Commit what came, and write down how the session ended, however it ended."""
        try:
            await self._buffer.flush()
        except DiskError:
            self._reached_end = False
            raise
        finally:
            self._buffer.close()
            await asyncio.to_thread(self._write_down_end)

    def _write_down_end(self) -> None:
        why = self.stopped_by or self._broken
        self.writer.finish(
            self._state(),
            reason=None if self.stopped_by is None else self.stopped_by.reason,
            message=None if why is None else str(why),
            calls=self.progress.calls,
            verdict={name: round(seconds, 3) for name, seconds in dataclasses.asdict(self.bottleneck).items()},
            spent=self._spent,
        )

    def _spent(self) -> Spent | None:
        """What the run has spent, durable; None for a replay, which spends nothing."""
        if self._budget.calls is None:
            return None
        self._budget.calls.sync()
        return Spent(self._budget.requests, *self._budget.usage, self._budget.usd)

    def _chunks(self) -> Iterator[Chunk] | None:
        """The calls left to make; None where the manifest alone shows that there are none."""
        writer, plan = self.writer, self._plan
        missing = writer.settled.first_missing()
        end = call_number(plan.prompt_count, 0, plan.samples)
        first = min([missing, *(call for call in self._again if call < end)])
        read = writer.manifest.prompts_read
        skip = min(call_of_number(first, plan.samples)[0], read)
        if skip >= plan.prompt_count:
            return None
        return plan.chunks(settled=writer.settled, again=self._again, skip=skip, prompts_read=read)

    async def _ask_all(self, chunks: Iterator[Chunk], asker: Asker) -> None:
        # Sleeping retries hold no slot, so more tasks than slots keep the server busy; this bounds their number.
        room = asyncio.Semaphore(2 * self._plan.job.limits.concurrency)
        guard = asyncio.create_task(self._cancel_when_stopped(asker))
        try:
            async with contextlib.aclosing(look_up_ahead(chunks, asker.look_up)) as lookups:
                async for looked_up in lookups:
                    if self._stop.is_set():
                        break
                    await self._ask_some(looked_up, asker, room)
                else:
                    asker.no_more()
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            guard.cancel()

    async def _ask_some(self, looked_up: LookedUp, asker: Asker, room: asyncio.Semaphore) -> None:
        if looked_up.chunk is not None:
            await self._begin_chunk(looked_up.chunk)
        for request in looked_up.requests:
            if self._stop.is_set():
                return
            cached = looked_up.cached.get(request.key)
            if cached is not None and not self._is_known_bad(cached, request):
                # Equal requests share an answer: each gets it under its own prompt.
                await self._add_answer(asker.answer(cached, request))
                continue
            await room.acquire()
            if self._stop.is_set():
                room.release()
                return
            task = asyncio.create_task(self._ask(request, asker))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._done(task, room))

    async def _begin_chunk(self, chunk: Chunk) -> None:
        self._buffer.add_prompts(chunk)
        for bad in chunk.bad:
            failure = _failure_of(bad)
            # A column of nulls may be intended: a line for each is shown with --verbose only.
            emit_prompt_failed(log, bad, failure, level=logging.INFO)
            await self._buffer.add_failure(bad, failure)

    def _ask_anew(self, request: Request) -> bool:
        """Whether the cached answer to a request is bad, so that the server has to be asked again."""
        error_type = self._again.get(self._plan.number_of(request))
        return error_type is not None and FAILURES[error_type].ask_anew

    def _is_known_bad(self, cached: CachedAnswer, request: Request) -> bool:
        """Whether a cached answer is the one that failed; a later one has not been decoded yet."""
        if not self._ask_anew(request):
            return False
        at = cached.meta.fetched_at
        return at is None or at <= self.writer.failed_at[self._plan.number_of(request)]

    def _done(self, task: asyncio.Task[None], room: asyncio.Semaphore) -> None:
        self._tasks.discard(task)
        room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            # A full disk, a broken cache, a bug: keep what came, then raise.
            self._broken = self._broken or error
            self._stop.set()

    async def _ask(self, request: Request, asker: Asker) -> None:
        started = datetime.now(UTC)
        try:
            answer = await asker.ask(request, anew=self._ask_anew(request))
        except StopRunError as error:
            self._stop_for(error)
        except CallError as error:
            emit_prompt_failed(log, request, error)
            await self._buffer.add_failure(request, error, first_at=started)
        except asyncio.CancelledError:
            if request.key in asker.lost:
                lost = CallError(
                    "the run was stopped while the server was answering",
                    error_type="interrupted",
                    maybe_billed=True,
                )
                emit_prompt_failed(log, request, lost, level=logging.INFO)
                self._buffer.add_failure_now(request, lost, first_at=started)
            raise
        else:
            await self._add_answer(answer)
        self._count_calls(asker)

    async def _add_answer(self, answer: Answer) -> None:
        await self._buffer.add_answer(answer)
        if self._buffer.stop_reason is not None:
            self._stop_for(self._buffer.stop_reason)

    def _stop_for(self, error: StopRunError) -> None:
        if self.stopped_by is None:
            emit(log, "stopped", "stopping: %s", error, reason=error.reason, status=error.status)
        self.stopped_by = self.stopped_by or error
        self._budget.close(error)
        self._stop.set()

    async def _cancel_when_stopped(self, asker: Asker) -> None:
        """When the session is to stop: start no call, give those at the server a few seconds, cancel the rest."""
        await self._stop.wait()
        for task in self._tasks - asker.busy:
            task.cancel()
        if under_way := self._tasks & asker.busy:
            calls, message = len(under_way), "stopping: %d calls under way get %.0f s to finish"
            emit(log, "stopping", message, calls, GRACE_S, in_flight=calls, grace_s=GRACE_S)
            await asyncio.wait(under_way, timeout=GRACE_S)
        for task in self._tasks:
            task.cancel()

    def _count_calls(self, asker: Asker) -> None:
        # A replay calls no server.
        self.progress.calls = asker.calls if self._plan.job.transport.kind == "live" else 0

    async def _report(self) -> None:
        while self._on_progress is not None:
            self._say_progress()
            await asyncio.sleep(_REPORT_EVERY_S)

    def _say_progress(self) -> None:
        if self._on_progress is not None:
            self.progress.in_flight = len(self._at_server)
            self.progress.spent_usd = self._budget.usd
            self._on_progress(self.progress)

    def _state(self) -> str:
        if self.stopped_by is not None:
            return "stopped"
        return "finished" if self._reached_end and not self._stop.is_set() else "interrupted"


def _failure_of(bad: BadCall) -> CallError:
    error = CallError(str(bad.problem), error_type=bad.problem.error_type)
    error.attempts = 0
    return error
