"""From a request to a durable answer: cache, single flight on its key, transport with retry, cache again.

Holds the order of those steps for any number of calls at once. Leaves out which requests there are and what becomes of
the answers (`run`, `record`, `complete`).

The raw answer is on disk before it is handed on, so nothing that happens to it later can lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self, TypeVar

from logprob_store.cache.claims import Claims
from logprob_store.errors import CallError, StopRunError
from logprob_store.run.retry import ask_until_answered
from logprob_store.spending.budget import Budget
from logprob_store.usage import usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from logprob_store.cache.answers import AnswerCache, CachedAnswer
    from logprob_store.pacing.bottleneck import Bottleneck
    from logprob_store.pacing.pacer import Pacer
    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport

log = logging.getLogger(__name__)

_T = TypeVar("_T")

GRACE_S: Final = 5.0
"""Seconds that calls at the server get to finish, once no further call is to be made."""


class Asker:
    """Asks, each key once, also among processes that share the cache.

    Use as an async context manager. `calls` counts the calls made, `lost` holds the keys whose call was cancelled
    while it was at the server, `busy` the tasks that have a call there or its answer on the way to the disk.

    Args:
        transport: makes one call.
        pacer: lets calls start; for one asker alone.
        cache: where answers are kept, or None to keep none; then equal requests are asked each.
        fresh_for: the id of a run: answers that it did not pay for itself are asked again (mode `refresh`), and no
            other process is waited for.
        resumed_from: when that run began, if this is not its first session. An answer of another run that came since
            may have taken the place of one that this run had paid for, and lost.
        run: the id of the run, so that it knows its own answers after a restart.
        attempts: calls at most for one request.
        retry_for_s: seconds after which a request is not tried again.
        budget: the run's ceilings and what it has spent; without one there is no ceiling.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        pacer: Pacer,
        cache: AnswerCache | None = None,
        fresh_for: str | None = None,
        resumed_from: datetime | None = None,
        run: str | None = None,
        attempts: int = 6,
        retry_for_s: float = 600.0,
        budget: Budget | None = None,
    ) -> None:
        self.budget = Budget() if budget is None else budget
        self.calls = 0
        self.lost: set[str] = set()
        self.busy: set[asyncio.Task[object] | None] = set()
        self._transport = transport
        self._pacer = pacer
        self._cache = cache
        self._fresh_for = fresh_for
        self._resumed_from = resumed_from
        self._run = run
        self._attempts = attempts
        self._retry_for_s = retry_for_s
        self._in_flight: dict[str, asyncio.Future[Answer]] = {}
        self._renewed: set[str] = set()
        self._claims: Claims | None = None
        self._has_waited = False
        self._unkept: list[tuple[Answer, asyncio.Future[None]]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cache")

    async def __aenter__(self) -> Self:
        if self._cache is not None:
            self._claims = Claims(self._cache.path)
        self._pacer.watch.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._pacer.watch.stop()
        if self._keeper is not None:
            await self._keeper
        if self._claims is not None:
            self._claims.close()
        # The thread has the database open; it closes its own connection.
        if self._cache is not None:
            await self._in_thread(self._cache.close)
        self._thread.shutdown(wait=True)

    @property
    def bottleneck(self) -> Bottleneck:
        """What has held calls back so far."""
        return self._pacer.watch.bottleneck

    def no_more(self) -> None:
        """All that is to be asked is being asked: from here on free slots are no sign of a slow machine."""
        self._pacer.all_queued = True

    def stop(self, reason: StopRunError) -> None:
        """Make no further call: who is about to gets this error."""
        self.budget.close(reason)

    async def look_up(self, requests: Sequence[Request]) -> dict[str, CachedAnswer]:
        """What is kept already of the answers to these requests, by key; `answer` makes each request's own of it."""
        if self._cache is None:
            return {}
        return self._usable(await self._in_thread(self._cache.get_many, {request.key for request in requests}))

    def answer(self, kept: CachedAnswer, request: Request) -> Answer:
        """A kept answer as the answer to a request."""
        answer = kept.answer(request, run=self._run)
        maybe_billed = answer.maybe_billed or self.budget.may_have_paid(request.key)
        if (prices := self.budget.prices) is None:
            return dataclasses.replace(answer, maybe_billed=True) if maybe_billed else answer
        cost_usd: float | None = 0.0
        if answer.source == "api" and kept.was_paid_for(request):
            usage = usage_of(answer.body)
            cost_usd = None if usage is None else prices.usd(usage)
        return dataclasses.replace(answer, maybe_billed=maybe_billed, cost_usd=cost_usd)

    async def ask(self, request: Request, *, anew: bool = False) -> Answer:
        """The answer to one request, after `look_up` did not find it; durable when this returns.

        Of equal requests one is sent and all get its answer, in other processes too: who finds a key claimed waits for
        the answer, and asks if there is none in the end.

        Args:
            request: what to ask.
            anew: ask even if there is an answer, as it is of no use; once a session for equal requests. The new one is
                marked `maybe_billed`.

        Raises:
            CallError, StopRunError: see `retry.ask_until_answered`.
            CacheError: the answer could not be kept.
        """
        try:
            return await self._ask(request, anew=anew)
        finally:
            self.busy.discard(asyncio.current_task())

    async def _ask(self, request: Request, *, anew: bool) -> Answer:
        if self._cache is None or self._claims is None:
            return await self._call(request)
        while (first := self._in_flight.get(request.key)) is not None:
            try:
                twin = await asyncio.shield(first)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not first.cancelled() or (task is not None and task.cancelling()):
                    raise
                # Only the one who asked was called off: another of those who wait for it asks now.
            else:
                return dataclasses.replace(twin, request=request, cost_usd=None if twin.cost_usd is None else 0.0)
        mine: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._in_flight[request.key] = mine
        try:
            answer = await self._ask_under_claim(request, self._cache, self._claims, anew=anew)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                mine.cancel()
            else:
                mine.set_exception(error)
                mine.exception()  # seen: it is raised below, whether or not a twin waits for it
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            del self._in_flight[request.key]

    async def _ask_under_claim(self, request: Request, cache: AnswerCache, claims: Claims, *, anew: bool) -> Answer:
        """Ask while nobody else does, unless somebody has since `look_up`."""
        anew = anew and request.key not in self._renewed  # else a twin has done it
        # Nobody else's answer would do: whoever else asks is not waited for, but may wait for this one.
        alone = anew or self._fresh_for is not None
        if not claims.take(request.key) and not alone:
            await self._wait_for(request.key, claims)
        with contextlib.ExitStack() as claim:
            claim.callback(claims.release, request.key)
            # Looking here costs 6 us, a way to the thread and back 100.
            held = cache.holds(request.key)
            paid_before = held and anew  # for an answer that was of no use
            if held and not anew:
                kept = await self._in_thread(cache.get_many, [request.key])
                if usable := self._usable(kept):
                    return self.answer(usable[request.key], request)
                paid_before = self._may_have_been_ours(kept.get(request.key))
            answer = await self._call(request)
            if paid_before:
                answer = dataclasses.replace(answer, maybe_billed=True)
            claim.pop_all()  # it is let go of with the answer on the disk, whoever waits for that
        await self._keep(answer)
        if anew:
            self._renewed.add(request.key)
        return answer

    def _may_have_been_ours(self, kept: CachedAnswer | None) -> bool:
        """Whether this run may have paid for what stood where this is: it is damaged, or came since the run began."""
        if kept is None:
            return True
        at, began = kept.meta.fetched_at, self._resumed_from
        return began is not None and (at is None or at >= began)

    async def _wait_for(self, key: str, claims: Claims) -> None:
        """Wait, holding no slot, until another process has its answer or gives up; then the claim is ours."""
        if not self._has_waited:
            self._has_waited = True
            log.info("another process asks for some of the same answers: waiting for those that it has begun")
        self._pacer.sleeping += 1
        try:
            await claims.wait(key)
        finally:
            self._pacer.sleeping -= 1

    async def _call(self, request: Request) -> Answer:
        try:
            return await ask_until_answered(
                request,
                self._send,
                pacer=self._pacer,
                budget=self.budget,
                run=self._run,
                attempts=self._attempts,
                retry_for_s=self._retry_for_s,
            )
        except StopRunError as error:
            self.stop(error)
            raise

    async def _send(self, request: Request) -> Answer:
        self.calls += 1
        self.busy.add(asyncio.current_task())
        try:
            return await self._transport(request)
        except asyncio.CancelledError:
            self.lost.add(request.key)
            raise
        except CallError:
            self.busy.discard(asyncio.current_task())  # it may sleep now, before it tries again
            raise

    def _usable(self, cached: dict[str, CachedAnswer]) -> dict[str, CachedAnswer]:
        if self._fresh_for is None:
            return cached
        return {key: value for key, value in cached.items() if value.meta.run == self._fresh_for}

    async def _keep(self, answer: Answer) -> None:
        """Write an answer to the cache, together with all that came meanwhile: one sync for many.

        Then its claim is let go of, also where whoever waits for this has been cancelled.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unkept.append((answer, done))
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep_all())
        await done

    async def _keep_all(self) -> None:
        assert self._cache is not None  # noqa: S101  only `_ask_under_claim` keeps, and only with a cache
        assert self._claims is not None  # noqa: S101
        while self._unkept:
            batch, self._unkept = self._unkept, []
            try:
                await self._put(self._cache, [answer for answer, _ in batch])
            except BaseException as error:
                # Whatever it is, each who waits for this batch is told; nobody waits for ever.
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)
            finally:
                for answer, _ in batch:
                    self._claims.release(answer.request.key)

    async def _put(self, cache: AnswerCache, answers: list[Answer]) -> None:
        await self._in_thread(cache.put_many, answers)
        for answer in answers:
            self.budget.durable(answer)

    async def _in_thread(self, call: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
