"""The batches of a session: packs the calls that have no answer, waits for the batches, and packs again what failed.

    calls without an answer -> packer -> batch lives, several at once -> collector -> the cache

At the end the answers are in the cache, where the session finds them as it finds any other; what a call failed with is
asked from here (`Batches.verdict`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from logprob_store.batch.folder import BatchFolder
from logprob_store.batch.journal import FailedLine
from logprob_store.counted import counted
from logprob_store.errors import CallError, DiskError, StopRunError
from logprob_store.run.batch_answers import BatchCollector
from logprob_store.run.batch_life import BatchLife
from logprob_store.run.batch_packer import BatchPacker
from logprob_store.run.batch_queue import BatchQueue, LeftError
from logprob_store.run.lookahead import look_up_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from logprob_store.batch.client import BatchClient
    from logprob_store.batch.journal import Journal, SentBatch
    from logprob_store.batch.services import BatchService
    from logprob_store.cache.answers import AnswerCache, CachedAnswer
    from logprob_store.request import Request
    from logprob_store.run.lookahead import LookUp
    from logprob_store.run.plan import Chunk, Plan
    from logprob_store.spending.budget import Budget
    from logprob_store.spending.reservation import Reservation

log = logging.getLogger(__name__)

_KEY_DIGITS: Final = 16
_MB: Final = 1_000_000
_CANCEL_S: Final = 720.0
"""The longest time after the deadline for which batches that are to end are waited for."""


class Batches:
    """The batches of one session of a run.

    `left` says whether batches are under way when `fill_cache` is over, `covered` counts the calls that are in them,
    and `has_room` says whether the budget let all calls into one. `cancels` is as given.

    Args:
        plan: the calls of the job.
        client: asks the service.
        service: what is special about it.
        journal: of the run.
        run_id: of the run.
        began_at: when the run began.
        cache: where answers go.
        budget: of the run.
        detach: wait for no batch.
        cancel: begin none, and end those that are under way.
    """

    def __init__(
        self,
        plan: Plan,
        client: BatchClient | BatchFolder,
        service: BatchService,
        journal: Journal,
        *,
        run_id: str,
        began_at: datetime,
        cache: AnswerCache,
        budget: Budget,
        detach: bool = False,
        cancel: bool = False,
    ) -> None:
        self.left = False
        self.covered = 0
        self.has_room = True
        self._plan = plan
        self._client = client
        self._service = service
        self._journal = journal
        self._run_id = run_id
        self._budget = budget
        self._settings = plan.job.batch
        self._deadline = deadline(self._settings.deadline, began_at)
        self._queue = BatchQueue(limit=self._settings.queued_tokens, leaves=detach)
        self.cancels = cancel
        self._held: dict[int, Reservation] = {}
        self._collector = BatchCollector(
            plan,
            run_id=run_id,
            journal=journal,
            cache=cache,
            budget=budget,
            held=self._held,
            redaction=client.redaction,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_late = False  # what has not ended now is left
        self._cancel_s = min(_CANCEL_S, 12 * self._settings.poll_s)
        self._lives: dict[int, BatchLife] = {}
        self._failures: dict[int, FailedLine] = {}
        self._too_large: dict[int, FailedLine] = {}
        self._keys: set[int] = set()
        self._error: BaseException | None = None

    async def fill_cache(
        self,
        chunks: Callable[[], Iterator[Chunk] | None],
        look_up: LookUp,
        *,
        is_rejected: Callable[[CachedAnswer, Request], bool],
        is_refused: Callable[[Request], bool],
        has_row: Callable[[int], bool],
        stop: asyncio.Event,
    ) -> None:
        """Get answers to all calls by batches, as far as that goes.

        Args:
            chunks: gives the calls that have no row yet.
            look_up: finds cached answers.
            is_rejected: whether a cached answer is of no use.
            is_refused: whether its model is known to refuse a request, so that it is not sent.
            has_row: whether a call failed in an earlier session: its failure is in the store, and it is tried anew.
            stop: set from outside to leave the batches alone.

        Raises:
            StopRunError: no further call can succeed.
            DiskError: the cache or the journal cannot be written.
        """
        self._budget.billed_as = "batch"
        watchers = [asyncio.create_task(self._watch_stop(stop)), asyncio.create_task(self._watch_deadline())]
        try:
            if self.cancels:
                self._queue.end()
            await self._resume(has_row)
            has_more = True
            while has_more:
                ends = self._queue.ends
                packed = await self._pack(chunks, look_up, is_rejected, is_refused)
                has_more = bool(packed or self._tasks or not self.has_room)
                await self._wait(until_one_ends=not self.has_room)
                await self._note_failures()
                if self.left:
                    if self._queue.ends == ends or self._queue.begins_none():
                        break
                    self._go_on_with_left()  # one that ended has made room
        finally:
            for task in (*watchers, *self._tasks):
                task.cancel()
            await asyncio.gather(*watchers, *self._tasks, return_exceptions=True)
            self.left = bool(self._journal.open)
            self._budget.billed_as = None

    def verdict(self, request: Request) -> CallError | None:
        """What a call failed with that no further batch is to answer; None if it did not fail so."""
        failure = self._failure_of(request)
        if failure is None or (failure.again and self._settings.fallback == "live"):
            return None
        error = CallError(
            failure.message, error_type=failure.error_type, status=failure.status, maybe_billed=failure.maybe_billed
        )
        error.attempts = failure.attempts
        return error

    @property
    def has_ended(self) -> bool:
        """Whether every call has had its turn, so that one without an answer has failed."""
        return not self.left and not self._queue.is_stopped and not self.cancels

    @property
    def falls_back(self) -> bool:
        """Whether a call without an answer is asked live."""
        return self.has_ended and self._settings.fallback == "live"

    @property
    def calls_begun(self) -> int:
        """The calls of the batches that were begun in this session."""
        return self._queue.calls_begun

    def unsent(self, not_reached: int) -> int:
        """How many calls no batch at the service has.

        Args:
            not_reached: the calls of the run that have no outcome.
        """
        waiting = sum(batch.lines for batch in self._journal.open if not batch.is_begun)
        return waiting if self.has_room else waiting + max(1, not_reached - self.covered)

    def line(self) -> str:
        """How the batches are, as a line of progress, the most important first.

        Returns:
            Such as `45000 of 120000 done in 3 batches, about 2:10 left, 2 in_progress, 1 not begun`; empty
            without batches.
        """
        batches = self._journal.open
        if not batches:
            return ""
        states = Counter(batch.status or batch.state for batch in batches if batch.is_begun)
        states += Counter({"not begun": sum(not batch.is_begun for batch in batches)})
        done, lines = sum(batch.done + batch.failed for batch in batches), sum(batch.lines for batch in batches)
        said = [f"{done} of {lines} done in {counted(len(batches), 'batch')}"]
        said += [left] if (left := _time_left(batches, done, lines)) else []
        return ", ".join([*said, *(f"{number} {state}" for state, number in states.items())])

    def trouble(self) -> str:
        """What is waited for, or what stands in the way; empty if nothing does."""
        batches = self._journal.open
        troubles = [life.trouble for life in self._lives.values() if life.trouble and life.batch in batches]
        to_do = [
            f"`{self._client.command(batch.file_id, batch.model)}` answers it"
            for batch in batches
            if isinstance(self._client, BatchFolder) and batch.file_id and batch.state == "created"
        ]
        return "; ".join([*dict.fromkeys(troubles[:1]), *to_do])

    async def _resume(self, has_row: Callable[[int], bool]) -> None:
        """Go on with the batches of earlier sessions."""
        self._journal.drop_failures(has_row)
        await self._note_failures()
        for batch in self._journal.open:
            for number in (*batch.numbers, *batch.doubted_numbers):
                reservation = self._budget.adopt(number)
                if reservation is not None:
                    self._held[number] = reservation
            if batch.state == "packing":  # nothing of it was sent
                self._life(batch).dissolve()
                continue
            if batch.state in {"creating", "created"}:
                self._queue.adopted(batch)
            self._keys.update(self._keys_of(batch))
            self._start(batch)

    async def _pack(
        self,
        chunks: Callable[[], Iterator[Chunk] | None],
        look_up: LookUp,
        is_rejected: Callable[[CachedAnswer, Request], bool],
        is_refused: Callable[[Request], bool],
    ) -> int:
        """One pass over the calls; returns how many were packed."""
        self.covered, self.has_room = 0, True
        if self._queue.begins_none() or (calls := chunks()) is None:
            return 0
        settings, service = self._settings, self._service
        endpoint = self._plan.job.model.endpoint
        packer = BatchPacker(
            self._journal,
            self._budget,
            self._queue,
            held=self._held,
            url=service.url(endpoint),
            max_lines=min(settings.lines or service.max_lines, service.max_lines),
            max_bytes=service.max_bytes if settings.megabytes is None else int(settings.megabytes * _MB),
            on_packed=self._start,
        )
        packed = 0
        try:
            async with contextlib.aclosing(look_up_ahead(calls, look_up)) as lookups:
                async for looked_up in lookups:
                    for request in looked_up.requests:
                        cached = looked_up.cached.get(request.key)
                        has_answer = cached is not None and not is_rejected(cached, request)
                        if has_answer or is_refused(request) or not self._is_wanted(request):
                            self.covered += int(request.key[:_KEY_DIGITS], 16) in self._keys
                            continue
                        if self._is_too_large(packer, request):
                            continue
                        if not packer.add(self._plan.number_of(request), request):
                            packer.finish()
                            self.has_room = False
                            return packed
                        packed += 1
                        self.covered += 1
                        self._keys.add(int(request.key[:_KEY_DIGITS], 16))
                    if self._queue.begins_none():
                        break
            packer.finish()
        finally:
            packer.discard()
        return packed

    def _failure_of(self, request: Request) -> FailedLine | None:
        """What a call failed with; what another call of that number did, before the job was changed, is not meant."""
        call = self._plan.number_of(request)
        failure = self._too_large.get(call) or self._failures.get(call)
        return None if failure is None or failure.key != request.key else failure

    def _is_wanted(self, request: Request) -> bool:
        """Whether a call goes into a batch: an equal one is not under way, and it may succeed."""
        if int(request.key[:_KEY_DIGITS], 16) in self._keys:
            return False
        failure = self._failure_of(request)
        return failure is None or (failure.again and failure.attempts < self._plan.job.limits.attempts)

    def _is_too_large(self, packer: BatchPacker, request: Request) -> bool:
        """Whether a call alone is larger than a file may be; it is a failure then."""
        if packer.fits_alone(request):
            return False
        call = self._plan.number_of(request)
        said = "the call is larger than a file of a batch may be (batch.megabytes): ask it live"
        self._too_large[call] = FailedLine(call, request.key, "over_limit", said, attempts=0)
        return True

    def _life(self, batch: SentBatch) -> BatchLife:
        return BatchLife(
            batch,
            journal=self._journal,
            client=self._client,
            service=self._service,
            url=self._service.url(self._plan.job.model.endpoint),
            window=self._settings.window,
            tag=f"{self._run_id}/{batch.number}/{batch.sha256[:16]}",
            queue=self._queue,
            collector=self._collector,
            held=self._held,
            poll_s=self._settings.poll_s,
        )

    def _keys_of(self, batch: SentBatch) -> set[int]:
        return {int(key[:_KEY_DIGITS], 16) for _, key in self._journal.lines(batch)}

    def _go_on_with_left(self) -> None:
        """Go on with the batches that this session has left before, as there was no room for them."""
        self.left = False
        for batch in self._journal.open:
            if not batch.is_begun:
                self._start(batch)
            else:
                self.left = True

    def _start(self, batch: SentBatch) -> None:
        self._tasks.add(asyncio.create_task(self._go_on(batch)))

    async def _go_on(self, batch: SentBatch) -> None:
        life = self._lives[batch.number] = self._life(batch)
        try:
            await life.go_on()
        except asyncio.CancelledError:
            if not self._is_late or self._queue.is_stopped:
                raise
            log.warning(
                "batch %s had not ended %.0f s after the deadline: its calls are asked live and marked maybe_billed",
                batch.batch_id or batch.name,
                self._cancel_s,
            )
            life.abandon()
        except LeftError:
            self.left = True
        except (StopRunError, DiskError) as error:
            self._error = self._error or error
            self._queue.stop()

    async def _wait(self, *, until_one_ends: bool) -> None:
        """Wait for the batches; what is raised in one by a bug is raised here."""
        while self._tasks:
            done, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.cancelled():
                    self.left = True
                else:
                    task.result()
            if self._error is not None:
                raise self._error
            if until_one_ends:
                return

    async def _note_failures(self) -> None:
        """Take the failures of the batches that were collected, and let equal calls be packed again."""
        self._failures = await asyncio.to_thread(self._journal.failures)
        if not self._tasks:
            self._keys = set().union(*map(self._keys_of, self._journal.open))

    async def _watch_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._queue.stop()
        for task in self._tasks:
            task.cancel()

    async def _watch_deadline(self) -> None:
        if self._deadline is None:
            return
        while (left_s := (self._deadline - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110  the clock is asked
            await asyncio.sleep(min(left_s, 60.0))  # it may be set meanwhile
        log.warning("it is %s: what has no answer yet is asked live", self._deadline.astimezone().strftime("%H:%M"))
        self._queue.end()
        # A batch that is cancelled may take ten minutes to end; nothing is waited for longer than that.
        await asyncio.sleep(self._cancel_s)
        self._is_late = True
        for task in self._tasks:
            task.cancel()


def deadline(said: str | float | None, began_at: datetime) -> datetime | None:
    """When batches are no longer waited for: a time of day after the run began, here, or hours after that.

    >>> began = datetime(2026, 11, 26, 18, 0).astimezone()
    >>> deadline("06:00", began).astimezone().isoformat()[:16], deadline(8, began).astimezone().isoformat()[:16]
    ('2026-11-27T06:00', '2026-11-27T02:00')
    """
    if said is None:
        return None
    if not isinstance(said, str):
        return began_at + timedelta(hours=said)
    hour, minute = map(int, said.split(":"))
    began = began_at.astimezone()
    day = began.date()
    at = datetime(day.year, day.month, day.day, hour, minute).astimezone()
    if at <= began:
        day += timedelta(days=1)
        at = datetime(day.year, day.month, day.day, hour, minute).astimezone()
    return at


def _time_left(batches: list[SentBatch], done: int, lines: int) -> str:
    """About how long it takes, from how long it took so far."""
    started = [batch.started_at for batch in batches if batch.started_at is not None]
    if not started or not done or done >= lines:
        return ""
    passed_s = (datetime.now(UTC) - min(started)).total_seconds()
    minutes = max(1, round(passed_s / done * (lines - done) / 60))
    return f", about {minutes // 60}:{minutes % 60:02d} left"
