"""The asker: takes one request to a durable answer, from the cache or with a call.

The steps of a request: claim its key, look into the cache once more, call the server under retry, write the answer to
the cache. The raw answer is on the disk before it is handed on, so that no later step can lose it.

Which requests there are, and what becomes of the answers, is in `session`, `record` and `one_prompt`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import TYPE_CHECKING, Final, Self

from logprob_store.cache.claims import Claims
from logprob_store.errors import CallError, StopRunError
from logprob_store.processes import users_of
from logprob_store.run.attempts import ask_until_answered
from logprob_store.run.cache_thread import CacheThread
from logprob_store.run.first_outcomes import FirstOutcomes
from logprob_store.run.forbidden_calls import ForbiddenCalls
from logprob_store.spending.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from logprob_store.cache.answers import AnswerCache, CachedAnswer
    from logprob_store.pacing.bottleneck import Bottleneck
    from logprob_store.pacing.pacer import Pacer
    from logprob_store.request import Answer, Request
    from logprob_store.transport import Transport

log = logging.getLogger(__name__)

NAME_OTHERS_AFTER_S: Final = 10.0
"""Seconds after which it is said for whom a request waits: longer than most answers take."""

GRACE_S: Final = 5.0
"""Seconds that calls at the server get to finish, once no further call is to be made."""


class Asker:
    """Gets answers to requests; each key is asked once, also among processes that share the cache.

    Use as an async context manager. For its caller to read: `calls` counts the calls made, `shared`
    the answers by the call of an equal request; `tasks_at_server` are the
    tasks whose call is at the server or whose answer is on its way to the disk; `lost_keys` are the keys of calls that
    were cancelled at the server, and may be billed.

    Args:
        transport: makes one call.
        pacer: lets calls start; for this asker alone.
        cache: where answers are kept. None keeps none, and then each of several equal requests is asked.
        run: the id of the run, by which it knows the answers that it paid for in an earlier session.
        refresh: use cached answers only if this run paid for them. Other processes are not waited for.
        resumed_from: with `refresh`, when the run began, if this is not its first session. An answer of another run
            that came since may have replaced one that this run had paid for.
        attempts: calls at most for one request.
        retry_for_s: seconds after which a request is not tried again.
        budget: the run's ceilings and what it has spent; without one there is no ceiling.
        on_wait: called by the task of a request that begins to wait for another process, as long as that one likes.
        first_outcomes: closes the budget if none of the first calls is of use; without one they are not looked at.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        pacer: Pacer,
        cache: AnswerCache | None = None,
        run: str | None = None,
        refresh: bool = False,
        resumed_from: datetime | None = None,
        attempts: int = 6,
        retry_for_s: float = 600.0,
        budget: Budget | None = None,
        on_wait: Callable[[], None] = lambda: None,
        first_outcomes: FirstOutcomes | None = None,
    ) -> None:
        self.budget = Budget() if budget is None else budget
        self.first_outcomes = FirstOutcomes(watch=False) if first_outcomes is None else first_outcomes
        self.calls = 0
        self.shared = 0
        self.lost_keys: set[str] = set()
        self.tasks_at_server: set[asyncio.Task[object] | None] = set()
        self._transport = transport
        self._pacer = pacer
        self._pacer.on_trial = self.first_outcomes.watching
        self._shared_cache = cache
        self._cache: CacheThread | None = None
        self._claims: Claims | None = None
        self._run = run
        self._only_paid_by = run if refresh else None
        self._resumed_from = resumed_from if refresh else None
        self._attempts = attempts
        self._retry_for_s = retry_for_s
        self._in_flight: dict[str, asyncio.Future[Answer]] = {}
        self._asked_anew: set[str] = set()
        self._forbidden = ForbiddenCalls()
        self._has_logged_waiting = False
        self._has_named_others = False
        self._on_wait = on_wait

    async def __aenter__(self) -> Self:
        if self._shared_cache is not None:
            self._claims = Claims(self._shared_cache.path)
            self._cache = CacheThread(
                self._shared_cache, on_durable=self.budget.durable, on_write_ended=self._claims.release
            )
        self._pacer.watch.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._pacer.watch.stop()
        if self._cache is not None:
            await self._cache.close()
        if self._claims is not None:
            self._claims.close()

    @property
    def bottleneck(self) -> Bottleneck:
        """What has held calls back so far."""
        return self._pacer.watch.bottleneck

    @property
    def outage(self) -> str | None:
        """How the last call failed, if the server does not answer now."""
        return self._pacer.breaker.outage

    def trouble(self) -> str | None:
        """For how long no call has been answered, and why; None while answers come."""
        return self._pacer.trouble

    @property
    def refusal_of_all(self) -> StopRunError | None:
        """What all calls were refused with that may mean the key, in a run that has no answer yet; None without it.

        To be looked at once all calls are made: until then a refusal may be one prompt's.
        """
        return self._forbidden.nothing_else if self.first_outcomes.watching else None

    @property
    def reason_at_the_end(self) -> StopRunError | None:
        """Why no call was answered of a run that has no answer, once all are made; None if it may be the prompts."""
        return self.refusal_of_all or self.first_outcomes.reason_at_the_end

    def mark_last_request(self) -> None:
        """Note that no further request will come: from here on free slots are no sign of a slow machine."""
        self._pacer.all_queued = True

    async def look_up(self, requests: Sequence[Request]) -> dict[str, CachedAnswer]:
        """The cached answers to these requests, by request key; `answer_from_cache` makes answers of them.

        Raises:
            CacheError: the cache cannot be read.
        """
        if self._cache is None:
            return {}
        found = self._usable(await self._cache.get_many({request.key for request in requests}))
        if self.first_outcomes.watching:
            await self._take_cached(found[request.key].answer(request) for request in requests if request.key in found)
        return found

    def answer_from_cache(self, cached: CachedAnswer, request: Request) -> Answer:
        """A cached answer as the answer to a request, with what this run paid for it."""
        answer = cached.answer(request, run=self._run)
        maybe_billed = answer.maybe_billed or self.budget.may_have_paid(request.key)
        if self.budget.prices is None:
            return dataclasses.replace(answer, maybe_billed=True) if maybe_billed else answer
        cost_usd: float | None = 0.0
        if answer.source in {"api", "batch"} and cached.was_paid_for(request):
            cost_usd = self.budget.cost_usd(answer)
        return dataclasses.replace(answer, maybe_billed=maybe_billed, cost_usd=cost_usd)

    async def ask(self, request: Request, *, anew: bool = False) -> Answer:
        """The answer to a request that `look_up` found none to; it is durable when this returns.

        Of equal requests one is sent and all get its answer, also across processes: an asker that finds a key claimed
        waits for the answer of the other process, and asks itself if that one gets none.

        Args:
            request: what to ask.
            anew: make a call although the cache has an answer, because that one is of no use. Equal requests share one
                such call in a session. The new answer is marked `maybe_billed`.

        Raises:
            CallError: no usable answer.
            StopRunError: no call of this run can succeed.
            CacheError: the cache cannot be read.
            DiskError: the answer could not be written to the cache.
        """
        try:
            return await self._ask_once_per_key(request, anew=anew)
        except CallError as error:
            self.first_outcomes.give_up(error.error_type, error.status, str(error))
            raise
        finally:
            self.tasks_at_server.discard(asyncio.current_task())

    async def _ask_once_per_key(self, request: Request, *, anew: bool) -> Answer:
        if self._cache is None or self._claims is None:
            return await self._call_until_answered(request)
        while (equal := self._in_flight.get(request.key)) is not None:
            answer = await _answer_of(equal)
            if answer is not None:
                self.shared += answer.call is not None
                cost_usd = None if answer.cost_usd is None else 0.0
                return dataclasses.replace(answer, request=request, cost_usd=cost_usd)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._in_flight[request.key] = future
        try:
            answer = await self._ask_under_claim(request, self._cache, self._claims, anew=anew)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # marks it as retrieved: it is raised below, whether or not an equal request waits
            raise
        else:
            future.set_result(answer)
            return answer
        finally:
            del self._in_flight[request.key]

    async def _ask_under_claim(self, request: Request, cache: CacheThread, claims: Claims, *, anew: bool) -> Answer:
        """Claim the key and make the call, unless the cache has got an answer since `look_up`."""
        anew = anew and request.key not in self._asked_anew
        # Where no answer of another process would do, its call is not waited for; it may wait for this one.
        needs_own_answer = anew or self._only_paid_by is not None
        if not claims.take(request.key) and not needs_own_answer:
            await self._wait_for_claim(request.key, claims)
        with contextlib.ExitStack() as claim:
            claim.callback(claims.release, request.key)
            may_have_paid = cache.holds(request.key)
            if may_have_paid and not anew:
                cached = await cache.get_many([request.key])
                if usable := self._usable(cached):
                    answer = self.answer_from_cache(usable[request.key], request)
                    await self._take_cached([answer])
                    return answer
                may_have_paid = self._may_have_paid_for(cached.get(request.key))
            answer = await self._call_until_answered(request)
            if may_have_paid:
                answer = dataclasses.replace(answer, maybe_billed=True)
            claim.pop_all()  # the cache thread releases it once the answer is written, even if this task is cancelled
        await cache.put(answer)
        if anew:
            self._asked_anew.add(request.key)
        return answer

    def _usable(self, cached: dict[str, CachedAnswer]) -> dict[str, CachedAnswer]:
        if self._only_paid_by is None:
            return cached
        return {key: answer for key, answer in cached.items() if answer.meta.run == self._only_paid_by}

    def _may_have_paid_for(self, cached: CachedAnswer | None) -> bool:
        """Whether this run may have paid for an answer that was in this place of the cache.

        Args:
            cached: what is there now, by another run; None where it cannot be read.
        """
        if cached is None:
            return True
        fetched_at, began = cached.meta.fetched_at, self._resumed_from
        return began is not None and (fetched_at is None or fetched_at >= began)

    async def _wait_for_claim(self, key: str, claims: Claims) -> None:
        """Wait, without a slot, until the process that has a claim is done with the key; then take the claim.

        Raises:
            CallError: that process was not done with it within `retry_for_s`.
        """
        if not self._has_logged_waiting:
            self._has_logged_waiting = True
            log.info("another process asks for some of the same answers: waiting for those that it has begun")
        self._pacer.sleeping += 1
        self._on_wait()
        name_others = asyncio.get_running_loop().call_later(NAME_OTHERS_AFTER_S, self._name_others, claims)
        try:
            await asyncio.wait_for(claims.wait(key), self._retry_for_s)
        except asyncio.CancelledError:
            claims.release(key)  # it may have been taken in the same moment
            raise
        except TimeoutError:
            raise CallError(
                f"{users_of(claims.path)} has begun to ask for this answer and had none after {self._retry_for_s:g} s "
                "(limits.retry_for_s). End it, or let it go on; then run the same command again.",
                error_type="claimed",
            ) from None
        finally:
            name_others.cancel()
            self._pacer.sleeping -= 1

    def _name_others(self, claims: Claims) -> None:
        if not self._has_named_others:
            self._has_named_others = True
            log.warning("waiting for answers that %s has begun to ask for; all others go on", users_of(claims.path))

    async def _call_until_answered(self, request: Request) -> Answer:
        try:
            return await ask_until_answered(
                request,
                self._count_and_send,
                pacer=self._pacer,
                budget=self.budget,
                run=self._run,
                attempts=self._attempts,
                retry_for_s=self._retry_for_s,
            )
        except StopRunError as error:
            self.budget.close(error)  # no task starts a further call; each that would gets this error
            raise

    async def _count_and_send(self, request: Request) -> Answer:
        self.calls += 1
        self.tasks_at_server.add(asyncio.current_task())
        try:
            answer = await self._transport(request)
            self._forbidden.answered()
            await self._take_first(request, answer)
        except asyncio.CancelledError:
            self.lost_keys.add(request.key)
            raise
        except CallError as error:
            self._forbidden.failed_otherwise()
            self.tasks_at_server.discard(asyncio.current_task())  # it may sleep now, before it tries again
            await self._take_first(request, error)
            raise
        except StopRunError as error:
            if (failure := self._forbidden.failure_of(request, error)) is None:
                raise
            raise failure from None
        return answer

    async def _take_first(self, request: Request, outcome: Answer | CallError) -> None:
        """Look at a first outcome, before the pacer hears of it: until one is of use, a handful of calls start."""
        if self.first_outcomes.watching:
            await self.first_outcomes.take(request, outcome)
            self._act_on_first_outcomes()

    async def _take_cached(self, answers: Iterable[Answer]) -> None:
        """Look at some answers from the cache, if no good answer has been seen yet."""
        await self.first_outcomes.take_cached(answers)
        self._act_on_first_outcomes()

    def _act_on_first_outcomes(self) -> None:
        self._pacer.on_trial = self.first_outcomes.watching
        if self.first_outcomes.stop_reason is not None:
            self.budget.close(self.first_outcomes.stop_reason)


async def _answer_of(equal: asyncio.Future[Answer]) -> Answer | None:
    """The answer to an equal request in flight; None if the task that asked was cancelled, so that another must ask.

    Raises:
        CancelledError: the task that waits was cancelled itself.
    """
    try:
        return await asyncio.shield(equal)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if not equal.cancelled() or (task is not None and task.cancelling()):
            raise
        return None
